"""The time of an event: read exactly, in whole microseconds since 1970, and held against the server's clock."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

MICROSECONDS = 1_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_YEAR_10000_S = 253_402_300_800

# Narrower than datetime.fromisoformat, which takes weeks, missing seconds and naive times, too.
_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


class TimeRefusedError(ValueError):
    """A time that an event cannot have; ``reason`` names the rule that it breaks."""

    def __init__(self, reason: Literal["time", "future", "ancient"], text: str) -> None:
        super().__init__(text)
        self.reason: Literal["time", "future", "ancient"] = reason


@dataclass(frozen=True, slots=True)
class TimeRule:
    """How far an event's time may be from the server's clock, in seconds; ``max_age_s`` None: as old as 1970."""

    future_tolerance_s: float
    max_age_s: float | None

    def microseconds(self, time: int | float | str | None, now_us: int) -> int:
        """The time to use. None is now; a little ahead of now is now; anything past is taken as it is, however late.

        Raises:
            TimeRefusedError: unreadable, further ahead than tolerated, older than allowed, or before 1970.
        """
        if time is None:
            return now_us
        read_us = _from_text(time) if isinstance(time, str) else _from_number(time)
        if read_us > now_us + self.future_tolerance_s * MICROSECONDS:
            ahead = f"more than {self.future_tolerance_s:g} s ahead of the server's clock"
            raise TimeRefusedError("future", f"{ahead} (a number is seconds since 1970)")
        if read_us < 0:
            raise TimeRefusedError("ancient", "before 1970")
        if self.max_age_s is not None and read_us < now_us - self.max_age_s * MICROSECONDS:
            raise TimeRefusedError("ancient", f"older than {self.max_age_s:g} s")
        return min(read_us, now_us)


def _from_number(seconds: int | float) -> int:
    # What no clock shows is cut first: a client's 1e308 must not overflow.
    return round(min(max(seconds, -1), _YEAR_10000_S) * MICROSECONDS)


def _from_text(text: str) -> int:
    if not _RFC_3339.fullmatch(text):
        raise TimeRefusedError("time", "must be Unix seconds or RFC 3339 text with an offset: 2030-01-31T12:00:00Z")
    try:
        moment = datetime.fromisoformat(text.upper())
    except ValueError:
        raise TimeRefusedError("time", "no such date or time") from None
    return (moment - _EPOCH) // _MICROSECOND
