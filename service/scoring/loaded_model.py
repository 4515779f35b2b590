"""A published version, checked, warmed up and ready to score: the only way from an artifact to an answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace

import numpy as np

from feature_store.encoding.encoder import FeatureEncoder
from models.manifest import Manifest
from models.repository import ModelReference, PublishedVersion, VersionRefusedError
from service.scoring.batch import ATTENTION, Scored, Scores, ScoringRequest, check_request
from service.scoring.batcher import Batcher, BatchLimits, BatchObserver
from service.scoring.errors import ModelRefusedError, ScoringFailedError
from service.scoring.golden import GoldenRequest, GoldenRows
from service.scoring.graph_check import encoder_differences, graph_differences
from service.scoring.id_ranges import IdRanges
from service.scoring.onnx_session import OnnxSession, Provider, SessionSettings
from service.scoring.scorer import Scorer


@dataclass(frozen=True, slots=True)
class LoadSettings:
    """How versions are loaded. ``golden_tolerance``: largest deviation from torch's outputs that may serve."""

    session: SessionSettings
    limits: BatchLimits
    golden_tolerance: float = 1e-5


class LoadedModel:
    """One version in memory. Whoever holds it may score with it; its memory is freed with the last holder.

    So a version that was replaced needs no reference count: requests that started with it finish with it.
    """

    def __init__(
        self,
        *,
        manifest: Manifest,
        encoder: FeatureEncoder,
        provider: Provider,
        golden: GoldenRequest,
        golden_tolerance: float,
        batcher: Batcher[ScoringRequest, Scores],
        observer: BatchObserver,
    ) -> None:
        self.manifest = manifest
        self.encoder = encoder
        self.provider: Provider = provider
        self._golden = golden
        self._golden_tolerance = golden_tolerance
        self._batcher = batcher
        self._observer = observer
        self._id_ranges = IdRanges.of(encoder, manifest.inputs)

    @property
    def reference(self) -> ModelReference:
        """The exact reference, ``name@version``."""
        return ModelReference(self.manifest.name, self.manifest.version)

    @property
    def name(self) -> str:
        """The model's name."""
        return self.manifest.name

    @property
    def version(self) -> int:
        """The published version."""
        return self.manifest.version

    @property
    def digest(self) -> str:
        """SHA-256 of the ONNX file."""
        return self.manifest.digest

    @property
    def score_names(self) -> tuple[str, ...]:
        """Names of the scores of each row; the first ranks unless the plan says otherwise."""
        return self.manifest.score_names

    @property
    def uses_history(self) -> bool:
        """Whether the graph reads the user's history."""
        return self.manifest.uses_history

    @property
    def has_attention(self) -> bool:
        """Whether attention over the history can be asked for."""
        return any(output.meaning == ATTENTION for output in self.manifest.outputs)

    async def score(self, request: ScoringRequest, deadline: float) -> Scored:
        """Score a request by ``deadline`` (a moment of ``time.monotonic``), merged with whoever asks at the same time.

        Raises:
            ScoringFailedError: the request does not fit the graph, or has no finite scores.
            OverloadedError, DeadlinePassedError, ScorerClosedError: as ``Batcher.submit``.
        """
        try:
            check_request(request, self.manifest.inputs)
            self._id_ranges.check(request)
        except ScoringFailedError:
            self._observer.requests_failed(str(self.reference), requests=1)
            raise
        answer = await self._batcher.submit(request, rows=request.rows, deadline=deadline)
        return Scored(answer.result, answer.queue_s * 1_000, answer.run_s * 1_000)

    async def check_golden(self, deadline: float) -> float:
        """Score the first golden request as any caller would: can this process score now? Returns the deviation.

        Raises:
            ScoringFailedError: the scores are not torch's any more.
            OverloadedError, DeadlinePassedError, ScorerClosedError: as ``score``.
        """
        scored = await self.score(self._golden.request, deadline)
        error = self._golden.error_of(scored.scores)
        if not error <= self._golden_tolerance:
            raise ScoringFailedError(f"{self.reference}: {_deviation_text(error, self._golden_tolerance)}")
        return error

    async def drain(self) -> None:
        """Take nothing new; wait until every accepted request has its answer."""
        await self._batcher.drain()

    def close(self) -> None:
        """Take nothing new; fail what waits."""
        self._batcher.close()


def load_model(
    published: PublishedVersion, settings: LoadSettings, *, executor: Executor, observer: BatchObserver
) -> LoadedModel:
    """Check a published version from its hashes to its golden rows and warm it up. Blocks; call it on a thread.

    Raises:
        ModelRefusedError: names the version, the check that failed and what was measured.
        ProviderUnavailableError: CUDA was demanded and cannot be used.
    """
    try:
        return _load(published, settings, executor, observer)
    except (VersionRefusedError, ModelRefusedError) as error:
        manifest = published.manifest
        raise ModelRefusedError(f"{manifest.name}@{manifest.version} refused: {error}") from None


def _load(published: PublishedVersion, settings: LoadSettings, executor: Executor, observer: BatchObserver) -> LoadedModel:
    manifest = published.manifest
    encoder = _read_encoder(published)
    golden = GoldenRows.loads(published.file_bytes(manifest.golden), manifest).requests
    session = _open_session(published, settings.session)
    scorer = Scorer(session, manifest)
    try:
        _check_golden(scorer, golden, settings.golden_tolerance)
        _warm_up(scorer, [each.request for each in golden], settings.limits.max_batch_rows)
    except ModelRefusedError:
        raise
    except Exception as error:  # whatever the graph raises
        raise ModelRefusedError(f"golden rows cannot be scored: {str(error)[:500]}") from None
    name = f"{manifest.name}@{manifest.version}"
    return LoadedModel(
        manifest=manifest,
        encoder=encoder,
        provider=session.provider,
        golden=golden[0],
        golden_tolerance=settings.golden_tolerance,
        batcher=Batcher(name, scorer, executor=executor, limits=settings.limits, observer=observer),
        observer=observer,
    )


def _read_encoder(published: PublishedVersion) -> FeatureEncoder:
    manifest = published.manifest
    try:
        encoder = FeatureEncoder.loads(published.file_bytes(manifest.encoder))
    except ValueError as error:
        raise ModelRefusedError(f"{manifest.encoder}: {error}") from None
    if encoder.fingerprint != manifest.encoder_fingerprint:
        raise ModelRefusedError(
            f"{manifest.encoder}: fingerprint {encoder.fingerprint} is not the manifest's {manifest.encoder_fingerprint}"
        )
    _refuse_if(encoder_differences(manifest, encoder))
    return encoder


def _open_session(published: PublishedVersion, settings: SessionSettings) -> OnnxSession:
    """The graph as the manifest describes it.

    Whatever else the manifest lists may be the graph's external data: its checked bytes are offered by name.
    """
    manifest = published.manifest
    own = {manifest.onnx, manifest.encoder, manifest.golden}
    others = {each.name: published.file_bytes(each.name) for each in manifest.files if each.name not in own}
    session = OnnxSession(published.file_bytes(manifest.onnx), others, settings)
    _refuse_if(graph_differences(manifest, session.inputs, session.outputs))
    return session


def _refuse_if(differences: Sequence[str]) -> None:
    if differences:
        raise ModelRefusedError("; ".join(differences))


def _check_golden(scorer: Scorer, golden: Sequence[GoldenRequest], tolerance: float) -> None:
    """Score all golden rows in one batch and hold them to torch's outputs."""
    errors = []
    for each, outcome in zip(golden, scorer([each.request for each in golden]), strict=True):
        if isinstance(outcome, ScoringFailedError):
            raise ModelRefusedError(f"golden rows cannot be scored: {outcome}")
        errors.append(each.error_of(outcome))
    error = float(np.max(errors))
    if not error <= tolerance:
        raise ModelRefusedError(_deviation_text(error, tolerance))


def _deviation_text(error: float, tolerance: float) -> str:
    return f"golden rows deviate from torch's scores by {error:.3g}, above the tolerance of {tolerance:g}"


def _warm_up(scorer: Scorer, golden: Sequence[ScoringRequest], max_batch_rows: int) -> None:
    """Run the smallest batch, the golden one and the largest, so that no caller pays for first allocations."""
    full = list(golden) * math.ceil(max_batch_rows / sum(request.rows for request in golden))
    for batch in ([golden[0]], list(golden), full):
        scorer(batch)
        scorer([replace(request, want_attention=False) for request in batch])
