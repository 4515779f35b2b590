"""The base of every schema of the plan: nothing unknown, nothing coerced, nothing null."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator


class StrictSchema(BaseModel):
    """Refuses unknown keys, values of another type, nulls (``salt:`` with nothing after it) and text that is not UTF-8."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _stated_and_writable(cls, value: Any) -> Any:
        if value is None:
            raise ValueError("has no value; write one or leave the key out")
        if isinstance(value, str):
            try:
                value.encode("utf-8")
            except UnicodeEncodeError:
                raise ValueError("holds a lone surrogate, which UTF-8 cannot write") from None
        return value
