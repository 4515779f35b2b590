"""The params an arm may set. A new one is added here, and nowhere else in ``service.experiments``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from models.repository import ModelReference, ReferenceInvalidError
from service.experiments.strict_schema import StrictSchema

MAX_TOP_K = 5_000

ParamName = Literal["model", "top_k", "score"]
ParamValue = str | int


@dataclass(frozen=True, slots=True)
class Params:
    """What one answer is made with: the plan's defaults with the unit's arms applied over them.

    ``model`` is a reference (``din@3``, ``din@latest``); ``top_k`` None answers every candidate; ``score`` None ranks by the
    model's first output.
    """

    model: str
    top_k: int | None = None
    score: str | None = None

    def with_changes(self, changes: Mapping[ParamName, ParamValue]) -> Params:
        """These params with some replaced, as a schema below allowed them."""
        return replace(self, **changes) if changes else self  # type: ignore[arg-type]


def _reference(text: str) -> str:
    try:
        return str(ModelReference.parse(text))
    except ReferenceInvalidError as error:
        raise ValueError(str(error)) from None


_Model = Annotated[str, AfterValidator(_reference)]


class ArmParamsSchema(StrictSchema):
    """Params as an arm writes them: only those that it changes."""

    model: _Model | None = None
    top_k: int | None = Field(default=None, ge=1, le=MAX_TOP_K)
    score: str | None = Field(default=None, pattern=r"^[a-z][a-z0-9_-]{0,63}$")

    def changes(self) -> dict[ParamName, ParamValue]:
        """The params that were written."""
        return self.model_dump(exclude_unset=True)  # type: ignore[return-value]


class DefaultParamsSchema(ArmParamsSchema):
    """Params as the plan's ``defaults`` write them: a model is needed."""

    model: _Model
