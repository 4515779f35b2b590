"""From a published version to a scorer that was held to its golden rows: what every process that scores loads with."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from feature_store.encoding.encoder import FeatureEncoder
from models.manifest import Manifest
from models.repository import PublishedVersion, VersionRefusedError
from service.scoring.batch import ScoringRequest
from service.scoring.collapsed import OpenedForms, collapsed_golden, forms_elsewhere, open_forms
from service.scoring.errors import ModelRefusedError, ScoringFailedError
from service.scoring.golden import GoldenRequest, GoldenRows
from service.scoring.graph_check import encoder_differences
from service.scoring.onnx_session import Provider, SessionSettings
from service.scoring.policies import Policy, choose_policy
from service.scoring.run_cost import measure
from service.scoring.scorer import Form, Forms, Scorer
from service.scoring.version_graphs import VersionGraphs

MEASURED_ROWS = (32, 64, 128, 256, 512, 1_024, 2_048)
"""Sizes whose runs are timed before the first request."""
_MEASURED_REPEATS = 5


@dataclass(frozen=True, slots=True)
class LoadRule:
    """How versions are opened.

    ``golden_tolerance``: largest deviation from torch's outputs that may serve. ``collapsed``: use a version's collapsed forms.
    """

    session: SessionSettings
    golden_tolerance: float = 1e-5
    collapsed: bool = True


@dataclass(frozen=True, slots=True)
class OpenedVersion:
    """A version that may serve. ``golden`` are its golden requests as they are scored when all is well."""

    manifest: Manifest
    encoder: FeatureEncoder
    opened: OpenedForms
    scorer: Scorer
    golden: tuple[GoldenRequest, ...]
    provider: Provider


def open_version(published: PublishedVersion, rule: LoadRule) -> OpenedVersion:
    """Check a published version from its hashes to the golden rows of each of its forms. Blocks; call it on a thread.

    Raises:
        ModelRefusedError: names the version, the check that failed and what was measured.
        ProviderUnavailableError: CUDA was demanded and cannot be used.
    """
    with _named_refusal(published):
        return _open(published, rule)


def open_front_end(published: PublishedVersion, rule: LoadRule) -> OpenedVersion:
    """A version for a process that encodes requests and has another process score them.

    Of the graphs only the item's is opened, where there is one; the scorer of what is returned raises. Whether the two
    processes agree on the golden rows is the caller's to check. Raises as ``open_version``.
    """
    with _named_refusal(published):
        manifest = published.manifest
        encoder = _read_encoder(published)
        golden = GoldenRows.loads(published.file_bytes(manifest.golden), manifest).requests
        graphs = VersionGraphs(published, rule.session)
        opened = forms_elsewhere(published, encoder, graphs.open, collapsed=rule.collapsed)
        collapsed = collapsed_golden(golden, opened)
        return OpenedVersion(manifest, encoder, opened, Scorer(opened.forms, manifest), tuple(collapsed or golden), "cpu")


@contextmanager
def _named_refusal(published: PublishedVersion) -> Iterator[None]:
    try:
        yield
    except (VersionRefusedError, ModelRefusedError) as error:
        manifest = published.manifest
        raise ModelRefusedError(f"{manifest.name}@{manifest.version} refused: {error}") from None


def warm_up(version: OpenedVersion, max_rows: int) -> None:
    """Run the smallest batch, the golden one and one of ``max_rows``, so that no caller pays for first allocations."""
    golden = [each.request for each in version.golden]
    full = list(golden) * math.ceil(max_rows / sum(request.rows for request in golden))
    for batch in ([golden[0]], golden, full):
        version.scorer(batch)
        version.scorer([ScoringRequest(request.inputs, request.rows) for request in batch])


def measured_policy(version: OpenedVersion) -> Policy:
    """Where and in what portions the version is best run here, from runs of one request and of several."""
    request = version.golden[0].request
    alone = {rows: [_resized(version, request, rows)] for rows in MEASURED_ROWS}
    together = {2 * rows: 2 * batch for rows, batch in alone.items()}
    return choose_policy(
        measure(lambda rows: _run(version, alone[rows]), list(alone), _MEASURED_REPEATS),
        version.provider,
        together=measure(lambda rows: _run(version, together[rows]), list(together), _MEASURED_REPEATS),
    )


def golden_deviation(golden: Sequence[GoldenRequest], scorer: Scorer) -> float:
    """Score golden rows in one batch; the largest deviation from torch's outputs.

    Raises:
        ModelRefusedError: one of them has no scores.
    """
    errors = []
    for each, outcome in zip(golden, scorer([each.request for each in golden]), strict=True):
        if isinstance(outcome, ScoringFailedError):
            raise ModelRefusedError(f"golden rows cannot be scored: {outcome}")
        errors.append(each.error_of(outcome))
    return float(np.max(errors))


def deviation_text(error: float, tolerance: float) -> str:
    """What is wrong with such a deviation."""
    return f"golden rows deviate from torch's scores by {error:.3g}, above the tolerance of {tolerance:g}"


def _open(published: PublishedVersion, rule: LoadRule) -> OpenedVersion:
    manifest = published.manifest
    encoder = _read_encoder(published)
    golden = GoldenRows.loads(published.file_bytes(manifest.golden), manifest).requests
    graphs = VersionGraphs(published, rule.session)
    session = graphs.open_plain()
    plain = Form(session, manifest.inputs)
    opened = open_forms(published, plain, encoder, graphs.open) if rule.collapsed else OpenedForms(Forms(plain), None)
    scorer = Scorer(opened.forms, manifest)
    collapsed = collapsed_golden(golden, opened)
    # The plain form, then the collapsed ones: many users at once, and each user alone.
    for batch in (golden, collapsed, *([one] for one in collapsed)):
        _check_golden(scorer, batch, rule.golden_tolerance)
    return OpenedVersion(manifest, encoder, opened, scorer, tuple(collapsed or golden), session.provider)


def _check_golden(scorer: Scorer, golden: Sequence[GoldenRequest], tolerance: float) -> None:
    if not golden:
        return
    try:
        error = golden_deviation(golden, scorer)
    except ModelRefusedError:
        raise
    except Exception as failure:  # whatever the graph raises
        raise ModelRefusedError(f"golden rows cannot be scored: {str(failure)[:500]}") from None
    if not error <= tolerance:
        raise ModelRefusedError(deviation_text(error, tolerance))


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


def _refuse_if(differences: Sequence[str]) -> None:
    if differences:
        raise ModelRefusedError("; ".join(differences))


def _run(version: OpenedVersion, batch: list[ScoringRequest]) -> None:
    version.scorer(batch)


def _resized(version: OpenedVersion, request: ScoringRequest, rows: int) -> ScoringRequest:
    """The request with its rows repeated, or cut, to so many; what is of the user stays."""
    of_users = {each.name for each in version.manifest.inputs if each.axis == "users"}
    inputs = {
        name: array if name in of_users else np.resize(array, (rows, *array.shape[1:]))
        for name, array in request.inputs.items()
    }
    return ScoringRequest(inputs, rows)
