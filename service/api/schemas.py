"""The wire: what a client may send to ``POST /rank`` and what comes back. Everything unknown is refused."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr

MAX_ID_BYTES = 256
MAX_FIELDS = 256
MAX_LIST_VALUES = 1_000
MAX_CANDIDATES = 100_000
ID_IS = f"Text of at most {MAX_ID_BYTES} bytes of UTF-8, or a 64-bit integer."
INT64_MIN, INT64_MAX = -(1 << 63), (1 << 63) - 1


def _id_text(value: int | str) -> int | str:
    if isinstance(value, int):
        if not INT64_MIN <= value <= INT64_MAX:
            raise ValueError("an integer id must fit 64 bits")
        return value
    if not value:
        raise ValueError("an id must not be empty")
    if len(value.encode("utf-8")) > MAX_ID_BYTES:
        raise ValueError(f"an id must not be longer than {MAX_ID_BYTES} bytes of UTF-8")
    if not value.isprintable():
        raise ValueError("an id must not hold control or invisible characters")
    return value


Id = Annotated[
    Annotated[StrictInt, Field(json_schema_extra={"minimum": INT64_MIN, "maximum": INT64_MAX})]
    | Annotated[StrictStr, Field(json_schema_extra={"minLength": 1, "maxLength": MAX_ID_BYTES})],
    AfterValidator(_id_text),
]
Scalar = StrictStr | StrictBool | StrictInt | StrictFloat
# Lists stop at their first wrong element: a million of them would be a million errors, made while everybody waits.
Value = Scalar | Annotated[list[StrictStr | StrictInt], Field(max_length=MAX_LIST_VALUES, fail_fast=True)] | None
FieldName = Annotated[str, Field(max_length=64)]


class _Wire(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class RankRequest(_Wire):
    """A user and the candidates to rank."""

    user_id: Id = Field(description=f"Whose features and arm; the unit of experiments. {ID_IS}", examples=[42])
    candidates: Annotated[list[Id], Field(fail_fast=True)] = Field(
        min_length=1,
        max_length=MAX_CANDIDATES,
        description=f"Item ids, answered in the type they came in. {ID_IS}",
        examples=[[1, 2, 3]],
    )
    candidate_features: dict[FieldName, Annotated[list[Value], Field(fail_fast=True)]] = Field(
        default_factory=dict,
        max_length=MAX_FIELDS,
        description="Columns: field name to one value per candidate. Item fields given here win over stored ones. "
        f"A list value holds at most {MAX_LIST_VALUES:,}.",
    )
    context: dict[FieldName, Value] = Field(
        default_factory=dict, max_length=MAX_FIELDS, description="Values of the request's context fields."
    )
    history: Annotated[list[Id], Field(fail_fast=True)] | None = Field(
        default=None, max_length=10_000, description="Item ids, oldest first; replaces the stored history."
    )
    top_k: StrictInt | None = Field(default=None, ge=1, description="How many to answer; all by default.")
    timeout_ms: StrictInt | None = Field(default=None, ge=1, description="The answer is due this long after arrival.")
    explain: Literal["none", "attention"] = Field(
        default="none", description="attention: the weight of each history event per candidate, where the model has it."
    )
    request_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{1,128}$")] | None = Field(
        default=None, description="Joins later events to this answer; made up when absent."
    )
    min_history_version: StrictInt | None = Field(
        default=None,
        ge=0,
        le=INT64_MAX,
        description="If the stored history is older, freshness.history_behind is true and the answer degraded.",
    )
    overrides: dict[FieldName, FieldName] = Field(
        default_factory=dict, max_length=64, description="Experiment to arm, for admins (bearer token)."
    )


class RankedItem(_Wire):
    """One candidate in its place. Without scores (see ``degraded``) ``score`` is null and named scores are absent."""

    model_config = ConfigDict(extra="allow")

    id: int | str
    score: float | None
    attention: list[float] | None = None


class ModelInfo(_Wire):
    """The exact model version of the answer; ``digest`` is the SHA-256 of its ONNX file."""

    name: str
    version: int
    digest: str


class AssignmentInfo(_Wire):
    """One experiment arm in force for this user."""

    layer: str
    experiment: str
    arm: str
    bucket: int
    generation: int
    forced: bool


class FreshnessInfo(_Wire):
    """What was known, how old it was, what was defaulted. Ages are of the stored records, in milliseconds."""

    user_known: bool | None
    user_age_ms: int | None
    history_length: int
    history_age_ms: int | None
    history_version: int | None
    history_behind: bool = Field(
        description="The history is older than min_history_version, or could not be read; told whatever degraded says."
    )
    unknown_candidates: int
    stale_candidates: int
    missing: list[str] = Field(description="User, context and candidate fields without a value.")
    stale: list[str] = Field(
        description="User fields, and item fields of at least one candidate, whose stored value is beyond its TTL."
    )
    refused: list[str] = Field(description="User fields whose stored value is not of the field's kind any more.")


class DegradedInfo(_Wire):
    """What the answer was made without, and why."""

    level: Literal["stale_history", "default_features", "input_order"]
    reason: str
    scored: int
    total: int


class RankResponse(_Wire):
    """The ranking, best first; equal scores in input order."""

    request_id: str
    user_id: int | str
    items: list[RankedItem]
    ranked_by: str
    model: ModelInfo
    experiments: list[AssignmentInfo]
    generation: int
    freshness: FreshnessInfo
    degraded: DegradedInfo | None
    timings_ms: dict[str, float]
    attention_history: list[str] | None = None


class ProblemField(_Wire):
    """One wrong field."""

    field: str
    reason: str


class Problem(_Wire):
    """RFC 9457 problem details."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str
    errors: list[ProblemField] | None = None
