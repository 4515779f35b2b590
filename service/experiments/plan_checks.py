"""Everything a plan can get wrong, found in one pass.

The schema judges each key alone; the checks below judge keys together. They run even if the schema found problems, on the
parts it found sound, so that an author sees every reason at once and none that merely follows from another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from pydantic import ValidationError

from service.experiments.arm_checks import arm_problems
from service.experiments.known_models import KnownModels
from service.experiments.model_checks import model_problems
from service.experiments.plan_schema import DEFAULT_BUCKETS, experiment_salt, layer_salt
from service.experiments.ranges import gaps, outside_and_overlaps
from service.experiments.sound_node import SoundNode, printable


def plan_problems(data: Any, refused: ValidationError | None, known: KnownModels | None) -> list[str]:
    """Every problem of the parsed YAML, as ``path: reason``; ``refused`` is what the schema said of it."""
    found = [] if refused is None else refused.errors(include_url=False, include_context=False, include_input=False)
    plan = SoundNode.root(data, (problem["loc"] for problem in found))
    lines = [plan.at(*problem["loc"], reason=_reason(problem["type"], problem["msg"])) for problem in found]
    lines.extend(_problems_of_sound(plan, known))
    return [printable(line) for line in lines]


def _reason(kind: str, message: str) -> str:
    if kind == "extra_forbidden":
        return "unknown key"
    if kind == "model_type":
        return "should be a mapping of keys to values"
    return message.removeprefix("Value error, ")


def _problems_of_sound(plan: SoundNode, known: KnownModels | None) -> Iterator[str]:
    layers = plan.each("layers")
    experiments = [experiment for layer in layers for experiment in layer.each("experiments")]
    yield from _names_that_stand_twice(layers, "layer")
    yield from _names_that_stand_twice(experiments, "experiment")
    yield from _params_owned_twice(layers)
    for layer in layers:
        yield from _traffic_problems(layer)
        yield from _params_not_owned(layer)
    for experiment in experiments:
        yield from _names_that_stand_twice(experiment.each("arms"), "arm")
        yield from _control_problems(experiment)
        yield from arm_problems(experiment)
    yield from _shared_salts(layers)
    yield from model_problems(plan, known)


def _names_that_stand_twice(nodes: list[SoundNode], what: str) -> Iterator[str]:
    seen: dict[str, SoundNode] = {}
    for node in nodes:
        name = node.get("name")
        if name is None:
            continue
        first = seen.setdefault(name, node)
        if first is not node:
            yield node.at("name", reason=f"{what} {name!r} stands twice, first at {first.path_text}")


def _params_owned_twice(layers: list[SoundNode]) -> Iterator[str]:
    owners: dict[str, SoundNode] = {}
    for layer in layers:
        for param, times in Counter(layer.get("owns") or []).items():
            if times > 1:
                yield layer.at("owns", reason=f"{param} stands twice")
            first = owners.setdefault(param, layer)
            if first is not layer:
                yield layer.at("owns", reason=f"{param} is owned by {first.path_text} already; one layer owns a param")


def _params_not_owned(layer: SoundNode) -> Iterator[str]:
    if layer.is_broken("owns"):
        return
    owned = layer.get("owns") or []
    for experiment in layer.each("experiments"):
        for arm in experiment.each("arms"):
            for param in arm.child("params").sound_keys():
                if param not in owned:
                    reason = f"the layer does not own {param}; it owns {', '.join(owned) or 'nothing'}"
                    yield arm.at("params", param, reason=reason)


def _control_problems(experiment: SoundNode) -> Iterator[str]:
    arms = experiment.each("arms")
    names = [arm.get("name") for arm in arms]
    control = experiment.get("control")
    if control is None or not experiment.holds_mappings("arms") or None in names:
        return
    if control not in names:
        yield experiment.at("control", reason=f"no arm {control!r}; the arms are {', '.join(names)}")


def _traffic_problems(layer: SoundNode) -> Iterator[str]:
    num_buckets = layer.get("num_buckets", DEFAULT_BUCKETS)
    if num_buckets is None:
        return
    owned = [
        (experiment.at("traffic"), piece) for experiment in layer.each("experiments") for piece in experiment.ranges("traffic")
    ]
    yield from outside_and_overlaps(owned, num_buckets)


def _shared_salts(layers: list[SoundNode]) -> Iterator[str]:
    """Two draws of one salt are one draw: whoever is in the one is a fixed part of the other."""
    first_use: dict[str, SoundNode] = {}
    for layer in layers:
        yield from _salt_used_before(layer, _salt(layer, layer_salt), first_use)
    for layer in layers:
        for experiment in layer.each("experiments"):
            salt = _salt(experiment, experiment_salt)
            if salt is None or first_use.get(salt) is not layer:
                yield from _salt_used_before(experiment, salt, first_use)
            elif not _takes_all_traffic(layer, experiment):
                reason = (
                    f"{salt!r} is its layer's salt too: its arms would follow from its traffic, unless that is every bucket"
                )
                yield experiment.at("salt", reason=reason)


def _salt_used_before(node: SoundNode, salt: str | None, first_use: dict[str, SoundNode]) -> Iterator[str]:
    if salt is None:
        return
    first = first_use.setdefault(salt, node)
    both_by_default = not node.has("salt") and not first.has("salt")
    if first is not node and not both_by_default:  # two default salts are equal only if the names are, which is said already
        yield node.at("salt", reason=f"{salt!r} is the salt of {first.path_text} too; their draws would be one draw")


def _salt(node: SoundNode, rule: Callable[[str, str | None], str]) -> str | None:
    name, written = node.get("name"), node.has("salt")
    if node.is_broken("salt") or (name is None and not written):
        return None
    return rule(name or "", node.get("salt"))


def _takes_all_traffic(layer: SoundNode, experiment: SoundNode) -> bool:
    """Whether every unit enters; a broken part counts as yes, since it is reported by itself."""
    num_buckets = layer.get("num_buckets", DEFAULT_BUCKETS)
    if num_buckets is None or experiment.is_broken("traffic"):
        return True
    return not gaps(experiment.ranges("traffic"), num_buckets)
