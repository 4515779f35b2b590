"""Why a scenario could not be run. What a scenario finds is no error: it is an ``Outcome``."""

from __future__ import annotations

from loadtest.errors import LoadTestError


class StageFailedError(LoadTestError):
    """The store, the service or the made data could not be put in place."""
