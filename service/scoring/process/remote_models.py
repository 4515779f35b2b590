"""A front-end's models: encoded here, scored by the scorer process; what ``load_model`` is to a process that scores itself."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from weakref import WeakSet

import numpy as np

from models.repository import PublishedVersion
from service.scoring.errors import ModelRefusedError, ScoringError
from service.scoring.loaded_model import LoadedModel
from service.scoring.process.connection import ScorerConnection
from service.scoring.process.errors import ScorerLostError
from service.scoring.process.remote_scorer import RemoteScorer
from service.scoring.queue_ports import BatchObserver
from service.scoring.version_loading import LoadRule, OpenedVersion, deviation_text, open_front_end

_ATTEMPTS = 3
_GOLDEN_S = 30.0
_log = logging.getLogger("rankline.scorer")


class RemoteModels:
    """Loads versions through one connection, which must have been started."""

    def __init__(
        self,
        connection: ScorerConnection,
        rule: LoadRule,
        observer: BatchObserver,
        *,
        max_queue_rows: int,
        load_timeout_s: float = 180.0,
    ) -> None:
        """``rule``: its session is for the item's graph, the only one opened here."""
        self._connection = connection
        self._rule = rule
        self._observer = observer
        self._max_queue_rows = max_queue_rows
        self._load_timeout_s = load_timeout_s
        self._remotes: WeakSet[RemoteScorer] = WeakSet()

    def waiting_rows(self) -> Mapping[str, int]:
        """Rows without scores yet, by model; for telemetry, which samples it."""
        return {remote.name: remote.waiting_rows for remote in list(self._remotes)}

    def load(self, published: PublishedVersion) -> LoadedModel:
        """Open a published version here and in the scorer process, which must agree on its golden rows.

        A scorer that dies meanwhile may have died of something else, so it is asked again, a few times. Blocks; call it on
        a thread that is not the connection's.

        Raises:
            ModelRefusedError: names the version, the check that failed and what was measured.
        """
        version = open_front_end(published, self._rule)
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return self._load(version)
            except ScorerLostError as error:
                if attempt == _ATTEMPTS:
                    raise
                _log.warning("a version is asked for again", extra={"reason": str(error), "attempt": attempt})
        raise AssertionError

    def _load(self, version: OpenedVersion) -> LoadedModel:
        manifest = version.manifest
        remote, ready = self._connection.load_from_thread(
            manifest, max_queue_rows=self._max_queue_rows, observer=self._observer, timeout_s=self._load_timeout_s
        )
        try:
            error = self._connection.run_from_thread(_golden_deviation(version, remote))
        except ScoringError as failure:
            lost = self._connection.mailbox_of(remote.handle) is None
            kind = ScorerLostError if lost else ModelRefusedError
            raise kind(f"{remote.name} refused: golden rows cannot be scored: {failure}") from None
        if not error <= self._rule.golden_tolerance:
            raise ModelRefusedError(f"{remote.name} refused: {deviation_text(error, self._rule.golden_tolerance)}")
        self._remotes.add(remote)
        version = replace(version, provider="cuda" if ready.provider == "cuda" else "cpu")
        return LoadedModel(version, remote, self._observer, self._rule.golden_tolerance)


async def _golden_deviation(version: OpenedVersion, remote: RemoteScorer) -> float:
    """The largest deviation from torch's outputs of the golden requests, encoded here and scored there."""
    deadline = time.monotonic() + _GOLDEN_S
    errors = []
    for each in version.golden:
        answer = await remote.submit(each.request, rows=each.request.rows, deadline=deadline)
        errors.append(each.error_of(answer.result))
    return float(np.max(errors))  # of NaN, too
