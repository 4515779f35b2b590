"""The wire of ``POST /events``: one event or a batch, and what comes back. Everything unknown is refused."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, SkipValidation, StrictFloat, StrictInt, StrictStr

from service.api.schemas import ID_IS, INT64_MAX, MAX_FIELDS, Id, ProblemField, Value
from service.ingestion.event_size import MAX_VALUES

MAX_TIME_LENGTH = 64


class _Wire(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, strict=True)


class WireEvent(_Wire):
    """Something that a user did with an item: at most 16 KiB as it is kept."""

    event_id: Id = Field(
        description=f"The same for every attempt to send this event: a user's id counts once. {ID_IS}", examples=["c-81f3"]
    )
    user_id: Id = Field(description=f"Who did it. {ID_IS}", examples=[42])
    item_id: Id = Field(description=f"With what. {ID_IS}", examples=[7])
    type: Annotated[StrictStr, Field(max_length=64)] = Field(
        description="One of the types that the feature views declare.", examples=["click"]
    )
    time: StrictInt | StrictFloat | Annotated[StrictStr, Field(max_length=MAX_TIME_LENGTH)] | None = Field(
        default=None,
        description="When: Unix seconds, or RFC 3339 text with an offset. The moment of receipt by default.",
        examples=["2030-01-31T12:00:00Z"],
    )
    value: StrictInt | StrictFloat | None = Field(
        default=None, description="The event's own number: required where its type has a value, refused where it has none."
    )
    request_id: Annotated[StrictStr, Field(pattern=r"^[A-Za-z0-9._:-]{1,128}$")] | None = Field(
        default=None, description="The request_id of the /rank answer that showed the item."
    )
    history_version: StrictInt | None = Field(
        default=None, ge=0, le=INT64_MAX, description="The freshness.history_version of that answer."
    )
    # Values are checked against their fields' kinds, which only the feature views know.
    context: dict[str, Annotated[Value, SkipValidation]] = Field(
        default_factory=dict,
        max_length=MAX_FIELDS,
        description=f"Values of context fields, as /rank was asked with them: at most {MAX_VALUES:,}, those in lists included.",
    )


class RefusedWireEvent(_Wire):
    """An event that was not taken: its place in the request (from 0) and what is wrong."""

    index: int
    errors: list[ProblemField]


class UserVersion(_Wire):
    """The version of a user's history with these events in it; null while they are kept but not applied."""

    user_id: int | str
    history_version: int | None


class EventsResponse(_Wire):
    """What became of the events. ``accepted`` + ``refused_count`` is the number that was sent; duplicates are accepted ones.

    ``duplicates`` is null while the store has not been heard. ``refused`` lists the first 100.
    """

    accepted: int
    duplicates: int | None
    refused_count: int
    refused: list[RefusedWireEvent]
    users: list[UserVersion]
    applied: bool


def request_schema(max_events: int) -> dict[str, Any]:
    """The JSON schema of the request body: one event, or an object with a list of them."""
    event = WireEvent.model_json_schema()
    events = {"type": "array", "minItems": 1, "maxItems": max_events, "items": event}
    batch = {
        "title": "WireEvents",
        "type": "object",
        "required": ["events"],
        "properties": {"events": events},
        "additionalProperties": False,
    }
    return {"oneOf": [event, batch]}
