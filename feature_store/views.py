"""Feature views: the one YAML in which a team says what its tables hold. No Python is needed to bring data in.

A *view* is the list of fields that one entity contributes to a row. There are four, by where the value comes from and
which axis it stands on:

=========== ======================================== ==========
view        value comes from                         axis
=========== ======================================== ==========
``user``    the users table; online: Redis           users
``context`` the interaction; online: the request     users (``per: request``)
``item``    the items table; online: the item cache  rows
``candidate`` the interaction; online: the request   rows (``per: candidate``)
=========== ======================================== ==========
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from feature_store.event_types import Events
from feature_store.schema_problems import readable_problems
from feature_store.strict_schema import Column, Name, Number, Seconds, StrictSchema
from feature_store.strict_yaml import StrictYamlError, read_strict_yaml

RESERVED_LABELS = ("id", "score", "attention")
"""Names that an answer or a graph gives to something else beside its named scores."""


class ViewsError(ValueError):
    """The feature views cannot be used; ``problems`` lists every reason, one line each."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(self.problems))


class Vocabulary(StrictSchema):
    """Known values get an id each; new ones, and those in fewer than ``min_count`` training rows, share the OOV id."""

    by: Literal["vocabulary"] = "vocabulary"
    min_count: int = Field(default=1, ge=1)
    max_size: int | None = Field(default=None, ge=1)


class Hashing(StrictSchema):
    """Values are hashed (BLAKE2b, salted by the field's name) into ``buckets`` ids: no vocabulary, stable for ever."""

    by: Literal["hash"]
    buckets: int = Field(ge=2, le=1 << 30)


class _BaseField(StrictSchema):
    name: Name
    column: Column | None = None
    ttl_s: Seconds | None = None
    """Online, a stored value written longer ago counts as missing (and is told as stale)."""

    @property
    def source(self) -> str:
        """The column this field is read from: ``column``, or the field's own name."""
        return self.column or self.name


class CategoryField(_BaseField):
    """One value out of many."""

    kind: Literal["category"]
    encode: Annotated[Vocabulary | Hashing, Field(discriminator="by")] = Vocabulary()


class CategoriesField(_BaseField):
    """Up to ``max_values`` values out of many (a list column, or text split at ``separator``)."""

    kind: Literal["categories"]
    encode: Annotated[Vocabulary | Hashing, Field(discriminator="by")] = Vocabulary()
    separator: str | None = Field(default=None, min_length=1, max_length=8)
    max_values: int = Field(default=8, ge=1, le=1_000)


class NumberField(_BaseField):
    """A number, transformed as declared; ``default`` (a raw value) stands in for a missing one, else the training mean."""

    kind: Literal["number"]
    transform: Literal["none", "standardize", "min_max", "log1p", "log1p_standardize"] = "standardize"
    default: Number | None = None


ViewField = Annotated[CategoryField | CategoriesField | NumberField, Field(discriminator="kind")]


class _PerContext(StrictSchema):
    per: Literal["request", "candidate"] = "request"


class ContextCategory(CategoryField, _PerContext):
    """A category that comes with the request, or with each candidate."""


class ContextCategories(CategoriesField, _PerContext):
    """Categories that come with the request, or with each candidate."""


class ContextNumber(NumberField, _PerContext):
    """A number that comes with the request, or with each candidate."""


ContextField = Annotated[ContextCategory | ContextCategories | ContextNumber, Field(discriminator="kind")]


class Entity(StrictSchema):
    """The users or the items: the column that names one, and its fields.

    ``ttl_s`` holds for every field that has none of its own.
    """

    key: Column
    ttl_s: Seconds | None = None
    fields: tuple[ViewField, ...] = ()

    @field_validator("fields", mode="before")
    @classmethod
    def _list_is_tuple(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value


class Condition(StrictSchema):
    """True where ``column`` is at least ``at_least``, or equals ``equals``; exactly one of the two is given.

    With neither, the column itself is the answer (0/1 or true/false).
    """

    column: Column
    at_least: Number | None = None
    equals: str | int | bool | None = None

    @field_validator("equals", mode="before")
    @classmethod
    def _exact_value(cls, value: Any) -> Any:
        if value is None or isinstance(value, str | int | bool):
            return value
        raise ValueError("must be text, an integer or true/false; for other numbers there is at_least")

    def holds(self, value: str | int | float | bool | None) -> bool:
        """Whether the condition holds for one value of the column; a missing one never does."""
        if value is None:
            return False
        if self.at_least is not None:
            return not isinstance(value, str) and value >= self.at_least
        if self.equals is None:
            return value in (True, 1)
        return (str(value) if isinstance(self.equals, str) else value) == self.equals

    @model_validator(mode="after")
    def _one_test(self) -> Self:
        if self.at_least is not None and self.equals is not None:
            raise ValueError("give at_least or equals, not both")
        return self


class Label(Condition):
    """What a network learns to predict; the name becomes the name of the score online (``ctr``, ``cvr``, ``like``)."""

    name: Name

    @field_validator("name")
    @classmethod
    def _not_reserved(cls, name: str) -> str:
        if name in RESERVED_LABELS:
            raise ValueError(f"{name!r} is taken: the name becomes a score's beside {', '.join(RESERVED_LABELS)}")
        return name


class History(StrictSchema):
    """Which interactions make up a user's history, and how many of the newest are kept."""

    length: int = Field(default=50, ge=1, le=10_000)
    where: Condition | None = None

    def takes(self, row: Mapping[str, str | int | float | bool]) -> bool:
        """Whether an event that fills these columns of the interactions table enters the history."""
        return self.where is None or self.where.holds(row.get(self.where.column))


class Interactions(StrictSchema):
    """The columns of the interactions table beside the entity keys.

    ``time`` orders events: an integer or float (any unit that grows), or a date-time. ``request`` groups the rows that were
    shown together; without it a user's rows are one group. ``served_history`` is a list column of item ids, oldest first: the
    history that the row was served with; where it is null, the history is what the table says was known before the row.
    """

    time: Column
    request: Column | None = None
    served_history: Column | None = None


class Tables(StrictSchema):
    """Paths of the three tables (CSV or Parquet), relative to the YAML file."""

    interactions: str
    users: str
    items: str


class Split(StrictSchema):
    """How rows are parted: at moments of the whole table (``time``), or at each user's own last shares (``position``)."""

    by: Literal["time", "position"] = "time"
    valid: float = Field(default=0.1, gt=0, lt=0.5)
    test: float = Field(default=0.1, gt=0, lt=0.5)


class FeatureViews(StrictSchema):
    """Everything the project needs to know about a team's data."""

    name: Name
    tables: Tables
    interactions: Interactions
    user: Entity
    item: Entity
    context: tuple[ContextField, ...] = ()
    history: History = History()
    labels: tuple[Label, ...]
    split: Split = Split()
    events: Events | None = None

    @field_validator("context", "labels", mode="before")
    @classmethod
    def _list_is_tuple(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        fields = [*self.user.fields, *self.item.fields, *self.context]
        twice = [name for name, count in Counter(field.name for field in fields).items() if count > 1]
        if twice:
            raise ValueError(f"field names must differ across all views: {', '.join(sorted(twice))} stands twice")
        labels = [name for name, count in Counter(label.name for label in self.labels).items() if count > 1]
        if labels or not self.labels:
            raise ValueError(
                f"label names must differ: {', '.join(labels)} stands twice" if labels else "labels: name at least one"
            )
        if self.user.key == self.item.key:
            raise ValueError(f"user.key and item.key are both {self.user.key!r}: interactions could not tell them apart")
        if not isinstance(self.item_key_field, CategoryField):
            raise ValueError(
                f"item.fields needs a field of kind category over the key column {self.item.key!r}: "
                "the history and the candidates share its encoding"
            )
        return self

    @model_validator(mode="after")
    def _no_answer_among_inputs(self) -> Self:
        for field in self.context:
            for label in self.labels:
                if field.source == label.column:
                    raise ValueError(
                        f"context field {field.name!r} reads column {field.source!r}, from which label {label.name!r} is "
                        "computed: the answer would be among the inputs"
                    )
        return self

    @model_validator(mode="after")
    def _events_leave_keys_alone(self) -> Self:
        rows = self.interactions
        keys = {self.user.key, self.item.key, rows.time, rows.request, rows.served_history}
        for kind in self.events.types if self.events else ():
            taken = sorted(kind.columns & {key for key in keys if key is not None})
            if taken:
                raise ValueError(
                    f"event type {kind.name!r} writes column {taken[0]!r}, which names the row, its time or its request"
                )
        return self

    @property
    def item_key_field(self) -> CategoryField | None:
        """The item field that encodes the item's own id; the history is encoded by it."""
        for field in self.item.fields:
            if field.source == self.item.key and isinstance(field, CategoryField):
                return field
        return None

    @property
    def request_fields(self) -> tuple[ContextField, ...]:
        """Context fields given once per request."""
        return tuple(field for field in self.context if field.per == "request")

    @property
    def candidate_fields(self) -> tuple[ContextField, ...]:
        """Context fields given per candidate."""
        return tuple(field for field in self.context if field.per == "candidate")

    def label(self, name: str) -> Label:
        """The label called ``name``.

        Raises:
            ViewsError: there is none.
        """
        for label in self.labels:
            if label.name == name:
                return label
        raise ViewsError([f"labels: no label {name!r}; there are {', '.join(label.name for label in self.labels)}"])


def load_views(path: Path) -> FeatureViews:
    """Read and check a feature-view YAML.

    Raises:
        ViewsError: every problem found, each naming file and key.
    """
    try:
        data = read_strict_yaml(path)
    except StrictYamlError as error:
        raise ViewsError([str(error)]) from None
    try:
        return FeatureViews.model_validate(data)
    except ValidationError as error:
        raise ViewsError(f"{path}: {line}" for line in readable_problems(error)) from None
