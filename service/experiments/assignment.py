"""Which arms a unit is in, and the params that follow. Pure, no I/O; at most two hashes per layer.

``assign`` is the plain way; ``PreparedPlan`` gives the same for less, once a plan is in force.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import msgspec

from service.experiments.bucketing import bucket_of, canonical_unit_id, hashed_unit_id, prepared_draw
from service.experiments.errors import OverrideInvalidError
from service.experiments.params import ParamName, Params, ParamValue
from service.experiments.plan import Arm, Experiment, ExperimentPlan, Layer

__all__ = ["Assigned", "Assignment", "OverrideInvalidError", "PreparedPlan", "assign"]

_NAMES_SHOWN = 20
_PARAMS_KEPT = 1_000
_NO_OVERRIDES: Mapping[str, str] = MappingProxyType({})


class Assignment(msgspec.Struct, frozen=True, gc=False):
    """A unit's arm in one layer.

    ``bucket`` is the unit's place in the experiment's arm draw, ``layer_bucket`` its place in the layer's traffic draw. With
    ``forced`` both are still the unit's own: they say where it would be, and the arm need not hold them.
    """

    layer: str
    experiment: str
    arm: str
    bucket: int
    layer_bucket: int
    forced: bool


class Assigned(msgspec.Struct, frozen=True, gc=False):
    """Everything the plan decides for one unit: at most one assignment per layer, in the plan's order."""

    params: Params
    assignments: tuple[Assignment, ...]


def assign(plan: ExperimentPlan, unit_id: str | int, overrides: Mapping[str, str] = _NO_OVERRIDES) -> Assigned:
    """Draw the unit's arms; ``overrides`` (experiment to arm) win over traffic and exclude their layer's other experiments.

    Raises:
        UnitIdInvalidError: the id is empty or cannot be hashed.
        OverrideInvalidError: an unknown experiment or arm, or two experiments of one layer.
    """
    unit = canonical_unit_id(unit_id)
    forced = _forced_arms(plan, overrides) if overrides else {}
    assignments: list[Assignment] = []
    changes: dict[ParamName, ParamValue] = {}
    for layer in plan.layers:
        layer_bucket = bucket_of(unit, layer.salt, layer.num_buckets)
        override = forced.get(layer.name)
        experiment = override[0] if override else layer.experiment_by_bucket.owner_of(layer_bucket)
        if experiment is None:
            continue
        bucket = bucket_of(unit, experiment.salt, experiment.num_buckets)
        arm = override[1] if override else _drawn_arm(experiment, bucket)
        changes.update(arm.changes)
        assignments.append(Assignment(layer.name, experiment.name, arm.name, bucket, layer_bucket, override is not None))
    return Assigned(plan.defaults.with_changes(changes), tuple(assignments))


@dataclass(frozen=True, slots=True)
class _PreparedLayer:
    """A layer that has traffic, with its draw and, by name, those of its experiments."""

    layer: Layer
    draw: Callable[[bytes], int]
    arm_draws: Mapping[str, Callable[[bytes], int]]


class PreparedPlan:
    """``assign`` for one plan: the salts are hashed once, and the params of arms that go together are made once."""

    def __init__(self, plan: ExperimentPlan) -> None:
        self.plan = plan
        self._layers = [_prepared(layer) for layer in plan.layers if layer.experiment_by_bucket.owners]
        self._params: dict[tuple[int, ...], Params] = {}

    def assign(self, unit_id: str | int, overrides: Mapping[str, str] = _NO_OVERRIDES) -> Assigned:
        """See ``assign``; the same errors, but that a plan without traffic hashes nothing and so takes any text."""
        if overrides:
            return assign(self.plan, unit_id, overrides)
        if not self._layers:
            canonical_unit_id(unit_id)
            return Assigned(self.plan.defaults, ())
        unit = hashed_unit_id(unit_id)
        assignments: list[Assignment] = []
        arms: list[Arm] = []
        for prepared in self._layers:
            layer = prepared.layer
            layer_bucket = prepared.draw(unit)
            experiment = layer.experiment_by_bucket.owner_of(layer_bucket)
            if experiment is None:
                continue
            bucket = prepared.arm_draws[experiment.name](unit)
            arm = _drawn_arm(experiment, bucket)
            assignments.append(Assignment(layer.name, experiment.name, arm.name, bucket, layer_bucket, False))
            if arm.changes:
                arms.append(arm)
        return Assigned(self._params_of(arms) if arms else self.plan.defaults, tuple(assignments))

    def _params_of(self, arms: list[Arm]) -> Params:
        key = tuple(map(id, arms))  # the plan keeps its arms alive; to hash what an arm says would take longer than all else
        params = self._params.get(key)
        if params is None:
            if len(self._params) >= _PARAMS_KEPT:
                self._params.clear()
            changes = {name: value for arm in arms for name, value in arm.changes}
            params = self._params[key] = self.plan.defaults.with_changes(changes)
        return params


def _prepared(layer: Layer) -> _PreparedLayer:
    draws = {each.name: prepared_draw(each.salt, each.num_buckets) for each in layer.experiments}
    return _PreparedLayer(layer, prepared_draw(layer.salt, layer.num_buckets), draws)


def _drawn_arm(experiment: Experiment, bucket: int) -> Arm:
    arm = experiment.arm_by_bucket.owner_of(bucket)
    assert arm is not None, "the arms of a checked plan hold every bucket"
    return arm


def _forced_arms(plan: ExperimentPlan, overrides: Mapping[str, str]) -> dict[str, tuple[Experiment, Arm]]:
    """The forced experiment and arm by layer name."""
    places = {experiment.name: (layer, experiment) for layer in plan.layers for experiment in layer.experiments}
    problems = list(_override_problems(places, overrides))
    if problems:
        raise OverrideInvalidError(problems)
    forced = {}
    for name, arm_name in overrides.items():
        layer, experiment = places[name]
        arm = experiment.arm(arm_name)
        assert arm is not None, "checked above"
        forced[layer.name] = (experiment, arm)
    return forced


def _override_problems(places: Mapping[str, tuple[Layer, Experiment]], overrides: Mapping[str, str]) -> Iterator[str]:
    """The reasons, in names of the plan only: what was sent may be hostile text."""
    if any(name not in places for name in overrides):
        yield f"no experiment of that name; the plan has {_listed(places)}"
    taken: dict[str, str] = {}
    for name, arm_name in overrides.items():
        if name not in places:
            continue
        layer, experiment = places[name]
        if experiment.arm(arm_name) is None:
            yield f"experiment {name} has no arm of that name; it has {_listed({arm.name for arm in experiment.arms})}"
        if taken.setdefault(layer.name, name) != name:
            yield f"experiments {taken[layer.name]} and {name} are in layer {layer.name} and exclude each other"


def _listed(names: Mapping[str, object] | set[str]) -> str:
    shown = sorted(names)
    more = f" and {len(shown) - _NAMES_SHOWN} more" if len(shown) > _NAMES_SHOWN else ""
    return (", ".join(shown[:_NAMES_SHOWN]) or "none") + more
