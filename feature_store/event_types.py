"""Which live events a team sends, and which columns of the interactions table each one fills.

An event is declared as what it would have written into the interactions table. Whether it enters the history, and which labels
it decides, then follows from the very conditions (``history.where``, ``labels``) that hold for the table.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from feature_store.strict_schema import Column, Name, Seconds, StrictSchema

MAX_TYPES = 64
MAX_HALF_LIVES = 4
TimeUnit = Literal["s", "ms", "us"]
TIME_UNITS_PER_S: dict[TimeUnit, float] = {"s": 1.0, "ms": 1e3, "us": 1e6}


class EventType(StrictSchema):
    """One kind of event.

    ``sets`` are the constants it writes, ``value`` names the column that takes the event's own number (an event must then bring
    one). ``example`` says that it starts a row to learn from: an impression, a rating; the others complete such a row (same
    user, item and request), or are history only.
    """

    name: Name
    sets: dict[Column, str | int | bool] = Field(default_factory=dict)
    value: Column | None = None
    example: bool = False

    @model_validator(mode="after")
    def _value_is_not_set(self) -> Self:
        if self.value is not None and self.value in self.sets:
            raise ValueError(f"column {self.value!r} stands in sets and takes the value, too")
        return self

    @property
    def columns(self) -> frozenset[str]:
        """The columns that it fills."""
        return frozenset(self.sets) | ({self.value} if self.value is not None else frozenset())

    def row(self, value: float | None) -> dict[str, str | int | float | bool]:
        """The columns of the interactions row that such an event fills."""
        filled: dict[str, str | int | float | bool] = dict(self.sets)
        if self.value is not None and value is not None:
            filled[self.value] = value
        return filled


class Events(StrictSchema):
    """The live events.

    ``time_unit`` says what a number in the interactions' time column counts (since 1970); date-times are seconds.
    ``time_resolution`` is how fine the times of events are kept: floored to it an event has the time that the team's own tables
    have of it, by which a materialization knows it again. It is the unit itself, or finer.
    ``half_lives_s``: each user's and item's events are counted with exponential decay, once per half-life, beside the total.
    """

    types: tuple[EventType, ...] = Field(min_length=1, max_length=MAX_TYPES)
    time_unit: TimeUnit = "s"
    time_resolution: TimeUnit | None = None
    half_lives_s: tuple[Seconds, ...] = Field(default=(3_600.0, 86_400.0), max_length=MAX_HALF_LIVES)

    @field_validator("types", "half_lives_s", mode="before")
    @classmethod
    def _list_is_tuple(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @model_validator(mode="after")
    def _no_coarser_than_the_unit(self) -> Self:
        resolution = self.time_resolution
        if resolution is not None and TIME_UNITS_PER_S[resolution] < self.units_per_s:
            raise ValueError(f"time_resolution {resolution} is coarser than time_unit {self.time_unit}")
        return self

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        twice = [name for name, count in Counter(kind.name for kind in self.types).items() if count > 1]
        if twice:
            raise ValueError(f"event types must differ: {', '.join(twice)} stands twice")
        if len(set(self.half_lives_s)) < len(self.half_lives_s):
            raise ValueError("half_lives_s must differ")
        return self

    @property
    def units_per_s(self) -> float:
        """How many units of the time column make a second."""
        return TIME_UNITS_PER_S[self.time_unit]

    @property
    def resolution_us(self) -> int:
        """The step of events' times in microseconds."""
        return round(1e6 / TIME_UNITS_PER_S[self.time_resolution or self.time_unit])

    def type_named(self, name: str) -> EventType | None:
        """The type of this name, or None."""
        return next((kind for kind in self.types if kind.name == name), None)
