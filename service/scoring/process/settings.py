"""What the scorer process is told when it is started, as one JSON argument."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec


@dataclass(frozen=True, slots=True)
class ScorerSettings:
    """``batch_rows``: of one run; small tiles win on a CPU, thousands of rows on a GPU. The rest as for any loading process.

    ``cuda_graphs``: off for graphs that CUDA cannot record, or to look for a fault.
    """

    repository: str
    provider: Literal["auto", "cuda", "cpu"] = "auto"
    intra_op_threads: int | None = None
    batch_rows: int = 4_096
    golden_tolerance: float = 1e-5
    collapsed: bool = True
    cuda_graphs: bool = True
    log_level: str = "info"

    def dumps(self) -> str:
        """As JSON text."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def loads(cls, text: str) -> ScorerSettings:
        """From JSON text. Raises msgspec.ValidationError."""
        return msgspec.json.decode(text, type=cls)


@dataclass(frozen=True, slots=True)
class HealingRule:
    """When the scorer process counts as hung, and how soon a dead one is replaced. In seconds.

    The scorer's loop answers a ping between any two batches. No word for ``hang_s`` means that it is stopped, or stuck in one
    run: then it is killed, whether or not requests wait, for the next one would. While it says that it is loading a version,
    or has not spoken yet, it has ``load_s``: building a session may hold the interpreter lock all the while.

    A dead scorer is replaced after ``backoff_s``; the wait is doubled, up to ``longest_backoff_s``, for every one that did not
    live ``calm_s``.
    """

    ping_s: float = 0.5
    hang_s: float = 10.0
    load_s: float = 120.0
    backoff_s: float = 0.05
    longest_backoff_s: float = 5.0
    calm_s: float = 30.0
