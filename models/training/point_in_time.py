"""What was known when: for each row the user's history strictly before it. numpy only, vectorised, memory O(rows)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class HistoryWindows:
    """Row r's history is ``events[start[r]:end[r]]``: numbers of interaction rows, oldest first.

    ``events`` holds every history event, by user, then time, then place in the table; int64 [events].
    ``start`` and ``end`` are int64 [rows], at most ``length`` apart; a history that was told (``with_told``) lies beyond them.
    """

    events: Codes
    start: Codes
    end: Codes


def time_ranks(times: npt.NDArray[np.int64] | npt.NDArray[np.float64]) -> Codes:
    """The order of times as int64 [rows]: 0 for the earliest, equal times equal."""
    return np.unique(times, return_inverse=True)[1].astype(np.int64, copy=False)


def history_windows(users: Codes, ranks: Codes, is_event: npt.NDArray[np.bool_], length: int) -> HistoryWindows:
    """The newest ``length`` events of the row's user with a time strictly before the row's.

    An event at the row's own time is not history: what was shown together cannot have been known, and one row would
    see its own label.

    Args:
        users: int64 codes [rows].
        ranks: from ``time_ranks``, int64 [rows].
        is_event: which rows become history, bool [rows].
        length: how many of the newest are kept.
    """
    span = int(ranks.max(initial=-1)) + 1
    moments = users * span + ranks
    rows = np.flatnonzero(is_event)
    events = rows[np.argsort(moments[rows], kind="stable")]
    event_moments = moments[events]
    end = np.searchsorted(event_moments, moments, side="left").astype(np.int64, copy=False)
    first_of_user = np.searchsorted(event_moments, users * span, side="left")
    return HistoryWindows(events, np.maximum(first_of_user, end - length), end)


def with_told(windows: HistoryWindows, rows: Codes, lengths: Codes) -> HistoryWindows:
    """The same windows, but for ``rows``, whose histories were told instead of found among the events.

    The told ones stand behind the events, one after another in the order of ``rows``, ``lengths`` long; both int64 [told].
    """
    start, end = windows.start.copy(), windows.end.copy()
    end[rows] = len(windows.events) + np.cumsum(lengths)
    start[rows] = end[rows] - lengths
    return HistoryWindows(windows.events, start, end)
