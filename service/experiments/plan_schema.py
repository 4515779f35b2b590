"""The shape of a plan's YAML: keys, types and bounds. What needs more than one key is checked in ``plan_checks``."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from service.experiments.params import ArmParamsSchema, DefaultParamsSchema, ParamName
from service.experiments.strict_schema import StrictSchema

DEFAULT_BUCKETS = 10_000
MAX_BUCKETS = 1_000_000
MAX_SALT_LENGTH = 256


def _ordered(pair: list[int]) -> list[int]:
    if pair[0] >= pair[1]:
        raise ValueError(f"[{pair[0]}, {pair[1]}) holds no bucket; the start must be below the end (write [] for no buckets)")
    return pair


def _one_range_is_a_list(value: Any) -> Any:
    """``[0, 5000]`` means ``[[0, 5000]]``."""
    if isinstance(value, list) and value and not any(isinstance(part, list) for part in value):
        return [value]
    return value


Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
Salt = Annotated[str, Field(max_length=MAX_SALT_LENGTH)]
NumBuckets = Annotated[int, Field(ge=2, le=MAX_BUCKETS)]
RangeList = Annotated[
    list[Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=2, max_length=2), AfterValidator(_ordered)]],
    BeforeValidator(_one_range_is_a_list),
]


class ArmSchema(StrictSchema):
    """One way to rank. Its share is given by ``buckets`` or by ``weight`` (percent), the same way in all arms."""

    name: Name
    buckets: RangeList | None = None
    weight: float | None = Field(default=None, ge=0, le=100, allow_inf_nan=False)
    params: ArmParamsSchema = ArmParamsSchema()


class ExperimentSchema(StrictSchema):
    """Arms compared with each other on the units that ``traffic`` lets in."""

    name: Name
    salt: Salt | None = None
    num_buckets: NumBuckets = DEFAULT_BUCKETS
    traffic: RangeList
    control: Name | None = None
    arms: list[ArmSchema] = Field(min_length=1)


class LayerSchema(StrictSchema):
    """Experiments that exclude each other, and the params that only they may set."""

    name: Name
    salt: Salt | None = None
    num_buckets: NumBuckets = DEFAULT_BUCKETS
    owns: list[ParamName] = Field(default_factory=list)
    experiments: list[ExperimentSchema] = Field(default_factory=list)


class PlanSchema(StrictSchema):
    """A whole plan. ``version`` is the version of this schema."""

    version: int = Field(ge=1, le=1)
    defaults: DefaultParamsSchema
    layers: list[LayerSchema] = Field(default_factory=list)


def layer_salt(name: str, salt: str | None) -> str:
    """The salt of a layer's traffic draw: as written (may be empty), else ``layer:<name>``."""
    return f"layer:{name}" if salt is None else salt


def experiment_salt(name: str, salt: str | None) -> str:
    """The salt of an experiment's arm draw: as written (may be empty), else ``experiment:<name>``."""
    return f"experiment:{name}" if salt is None else salt
