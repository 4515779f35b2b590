"""What every part of the feature views' schema has in common: nothing unknown, nothing converted, nothing changed later."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,63}$")]
Column = Annotated[str, Field(min_length=1, max_length=200)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Seconds = Annotated[float, Field(gt=0, le=1e10, allow_inf_nan=False)]


class StrictSchema(BaseModel):
    """Base of the schema's models."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
