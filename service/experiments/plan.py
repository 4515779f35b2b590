"""The experiment plan as the hot path reads it: layers, experiments, arms, all frozen; and the one way to get it from text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from feature_store.strict_yaml import StrictYamlError, load_strict_yaml
from service.experiments.arm_checks import weight_ranges
from service.experiments.errors import PlanInvalidError
from service.experiments.known_models import KnownModels
from service.experiments.params import ParamName, Params, ParamValue
from service.experiments.plan_checks import plan_problems
from service.experiments.plan_schema import ArmSchema, ExperimentSchema, LayerSchema, PlanSchema, experiment_salt, layer_salt
from service.experiments.ranges import BucketOwners, BucketRange
from service.experiments.sound_node import printable


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to rank: the buckets of the experiment's arm draw that it holds, and the params it changes."""

    name: str
    buckets: tuple[BucketRange, ...]
    changes: tuple[tuple[ParamName, ParamValue], ...]


@dataclass(frozen=True, slots=True)
class Experiment:
    """Arms compared with each other. ``traffic`` is in the layer's buckets; ``salt`` and ``num_buckets`` are the arm draw's."""

    name: str
    salt: str
    num_buckets: int
    traffic: tuple[BucketRange, ...]
    control: str
    arms: tuple[Arm, ...]
    arm_by_bucket: BucketOwners[Arm]

    def arm(self, name: str) -> Arm | None:
        """The arm of a name, or None."""
        return next((arm for arm in self.arms if arm.name == name), None)


@dataclass(frozen=True, slots=True)
class Layer:
    """Experiments that exclude each other; ``salt`` and ``num_buckets`` are the traffic draw's."""

    name: str
    salt: str
    num_buckets: int
    owns: tuple[ParamName, ...]
    experiments: tuple[Experiment, ...]
    experiment_by_bucket: BucketOwners[Experiment]


@dataclass(frozen=True, slots=True)
class ExperimentPlan:
    """Everything that decides which params a unit gets. ``ExperimentPlan(Params("din@latest"))`` runs no experiment."""

    defaults: Params
    layers: tuple[Layer, ...] = ()

    @property
    def experiments(self) -> Iterator[Experiment]:
        """Every experiment, in the plan's order; names are unique over all layers."""
        return (experiment for layer in self.layers for experiment in layer.experiments)

    @property
    def models(self) -> tuple[str, ...]:
        """Every model reference that some unit may get, the default first, each once."""
        arms = (arm for experiment in self.experiments for arm in experiment.arms)
        chosen = (str(value) for arm in arms for param, value in arm.changes if param == "model")
        return tuple(dict.fromkeys((self.defaults.model, *chosen)))


def parse_plan(text: str | bytes, known: KnownModels | None) -> ExperimentPlan:
    """Read and check a plan; ``known`` None leaves open whether its models and scores exist.

    Raises:
        PlanInvalidError: every problem found, each naming the key.
    """
    try:
        data = load_strict_yaml(text)
    except StrictYamlError as error:
        raise PlanInvalidError([printable(f"YAML: {error}")]) from None
    schema, refused = _validate(data)
    problems = plan_problems(data, refused, known)
    if schema is None or problems:
        raise PlanInvalidError(problems)
    return ExperimentPlan(
        Params(schema.defaults.model).with_changes(schema.defaults.changes()), tuple(_layer(layer) for layer in schema.layers)
    )


def _validate(data: Any) -> tuple[PlanSchema | None, ValidationError | None]:
    try:
        return PlanSchema.model_validate(data), None
    except ValidationError as error:
        return None, error


def _layer(schema: LayerSchema) -> Layer:
    experiments = tuple(_experiment(experiment) for experiment in schema.experiments)
    return Layer(
        name=schema.name,
        salt=layer_salt(schema.name, schema.salt),
        num_buckets=schema.num_buckets,
        owns=tuple(schema.owns),
        experiments=experiments,
        experiment_by_bucket=BucketOwners.of((experiment, experiment.traffic) for experiment in experiments),
    )


def _experiment(schema: ExperimentSchema) -> Experiment:
    arms = tuple(_arms(schema.arms, schema.num_buckets))
    return Experiment(
        name=schema.name,
        salt=experiment_salt(schema.name, schema.salt),
        num_buckets=schema.num_buckets,
        traffic=_ranges(schema.traffic),
        control=schema.control or arms[0].name,
        arms=arms,
        arm_by_bucket=BucketOwners.of((arm, arm.buckets) for arm in arms),
    )


def _arms(schemas: list[ArmSchema], num_buckets: int) -> Iterator[Arm]:
    weights = [schema.weight for schema in schemas if schema.weight is not None]
    by_weight = weight_ranges(weights, num_buckets) if weights else [()] * len(schemas)
    for schema, weighted in zip(schemas, by_weight, strict=True):
        ranges = weighted if schema.buckets is None else _ranges(schema.buckets)
        yield Arm(schema.name, ranges, tuple(schema.params.changes().items()))


def _ranges(pairs: list[list[int]]) -> tuple[BucketRange, ...]:
    return tuple(sorted(BucketRange(start, end) for start, end in pairs))
