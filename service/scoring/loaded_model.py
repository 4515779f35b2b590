"""A published version, checked, warmed up and ready to score: the only way from an artifact to an answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from models.manifest import Manifest
from models.repository import ModelReference, PublishedVersion
from service.scoring.batch import ATTENTION, Scored, Scores, ScoringRequest, divide, join
from service.scoring.errors import ScoringFailedError
from service.scoring.id_ranges import IdRanges
from service.scoring.policies import BatchLimits, Policy
from service.scoring.queue_ports import BatchObserver
from service.scoring.scheduler import Scheduler
from service.scoring.submission import Answer, Division
from service.scoring.version_loading import LoadRule, OpenedVersion, deviation_text, measured_policy, open_version, warm_up


class ScoringQueue(Protocol):
    """Where requests wait for their scores: this process's scheduler, or another process."""

    async def submit(self, item: ScoringRequest, *, rows: int, deadline: float) -> Answer[Scores]:
        """As ``ModelQueue.submit``."""

    async def drain(self) -> None:
        """As ``ModelQueue.drain``."""

    def close(self) -> None:
        """As ``ModelQueue.close``."""


@dataclass(frozen=True, slots=True)
class LoadSettings:
    """How versions are loaded. ``policy``: where and in what portions they run; None lets measurements decide."""

    rule: LoadRule
    limits: BatchLimits
    policy: Policy | None = None


class LoadedModel:
    """One version in memory. Whoever holds it may score with it; its memory is freed with the last holder.

    So a version that was replaced needs no reference count: requests that started with it finish with it.
    """

    def __init__(self, version: OpenedVersion, queue: ScoringQueue, observer: BatchObserver, golden_tolerance: float) -> None:
        manifest = version.manifest
        self.manifest: Manifest = manifest
        self.reference = ModelReference(manifest.name, manifest.version)
        # Plain attributes: every request reads them.
        self.name = manifest.name
        self.version = manifest.version
        self.digest = manifest.digest
        self.score_names = manifest.score_names
        self.uses_history = manifest.uses_history
        self.has_attention = any(output.meaning == ATTENTION for output in manifest.outputs)
        self.encoder = version.encoder
        self.provider = version.provider
        self.item_table = version.opened.item_table
        self.reads_items_beside_table = version.opened.forms.reads_items_beside_part
        self._forms = version.opened.forms
        self._golden = version.golden[0]
        self._golden_tolerance = golden_tolerance
        self._queue = queue
        self._observer = observer
        self._id_ranges = IdRanges.of(version.encoder, manifest.inputs)

    async def score(self, request: ScoringRequest, deadline: float) -> Scored:
        """Score a request by ``deadline`` (a moment of ``time.monotonic``), merged with whoever asks at the same time.

        Raises:
            ScoringFailedError: the request does not fit the graph, or has no finite scores.
            OverloadedError, DeadlinePassedError, ScorerClosedError: as ``ModelQueue.submit``.
        """
        try:
            self._forms.check(request)
            self._id_ranges.check(request)
        except ScoringFailedError:
            self._observer.requests_failed(str(self.reference), requests=1)
            raise
        answer = await self._queue.submit(request, rows=request.rows, deadline=deadline)
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
            raise ScoringFailedError(f"{self.reference}: {deviation_text(error, self._golden_tolerance)}")
        return error

    async def drain(self) -> None:
        """Take nothing new; wait until every accepted request has its answer."""
        await self._queue.drain()

    def close(self) -> None:
        """Take nothing new; fail what waits."""
        self._queue.close()


def load_model(
    published: PublishedVersion, settings: LoadSettings, *, scheduler: Scheduler, observer: BatchObserver
) -> LoadedModel:
    """Open a published version, warm it up and give it a queue of the scheduler's. Blocks; call it on a thread.

    Raises:
        ModelRefusedError: names the version, the check that failed and what was measured.
        ProviderUnavailableError: CUDA was demanded and cannot be used.
    """
    version = open_version(published, settings.rule)
    warm_up(version, settings.limits.max_batch_rows)
    policy = settings.policy or measured_policy(version)
    name = f"{version.manifest.name}@{version.manifest.version}"
    queue = scheduler.queue(name, version.scorer, policy, settings.limits, observer, division=Division(divide, join))
    return LoadedModel(version, queue, observer, settings.rule.golden_tolerance)
