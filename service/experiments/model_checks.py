"""The models and scores that a plan names: they exist, and every pair that can meet in one answer fits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from models.repository import ModelReference, RepositoryError
from service.experiments.known_models import KnownModels
from service.experiments.sound_node import Place, SoundNode


@dataclass(frozen=True, slots=True)
class _Choice:
    """What one arm (or the defaults) sets; None where it leaves a param alone."""

    node: SoundNode
    model: str | None
    score: str | None

    @property
    def layer(self) -> Place:
        """The place of its layer."""
        return self.node.path[:2]


def model_problems(plan: SoundNode, known: KnownModels | None) -> Iterator[str]:
    """What is wrong with model references and score names; nothing is asked if ``known`` is None."""
    if known is None:
        return
    defaults = plan.child("defaults")
    arms = [
        arm.child("params")
        for layer in plan.each("layers")
        for experiment in layer.each("experiments")
        for arm in experiment.each("arms")
    ]
    scores: dict[str, tuple[str, ...]] = {}
    unknown: dict[str, str] = {}
    for node in (defaults, *arms):
        model = node.get("model")
        if model is None:
            continue
        if model not in scores and model not in unknown:
            _ask(known, model, scores, unknown)
        if model in unknown:
            yield node.at("model", reason=unknown[model])
    choices = [_Choice(node, node.get("model"), node.get("score")) for node in arms if _is_clear(node)]
    yield from _score_problems(_Choice(defaults, defaults.get("model"), defaults.get("score")), choices, scores)


def _ask(known: KnownModels, model: str, scores: dict[str, tuple[str, ...]], unknown: dict[str, str]) -> None:
    try:
        scores[model] = known.score_names(ModelReference.parse(model))
    except (RepositoryError, OSError) as error:
        unknown[model] = str(error)


def _is_clear(params: SoundNode) -> bool:
    return not params.is_broken("model") and not params.is_broken("score")


def _score_problems(default: _Choice, arms: list[_Choice], scores: dict[str, tuple[str, ...]]) -> Iterator[str]:
    reported = set()
    for node, model, score in _pairs(default, arms):
        if model not in scores or score in scores[model]:
            continue
        line = node.at("score", reason=f"{model} has no score {score!r}; it has {', '.join(scores[model])}")
        if line not in reported:
            reported.add(line)
            yield line


def _pairs(default: _Choice, arms: list[_Choice]) -> Iterator[tuple[SoundNode, str, str]]:
    """Every (who set the score, model, score) that can meet: in one arm, or by arms of two layers."""
    setters = [choice for choice in (default, *arms) if choice.score is not None]
    movers = {(choice.layer, choice.model, choice.score): choice for choice in (*arms, default)}.values()
    for setter in setters:
        for mover in movers:
            if mover.model is not None and setter.score is not None and _can_meet(setter, mover, default):
                yield setter.node, mover.model, setter.score


def _can_meet(setter: _Choice, mover: _Choice, default: _Choice) -> bool:
    """Whether some unit gets the score of the one and the model of the other."""
    if setter is mover:
        return True
    if setter is default:
        return mover.score is None
    if mover is default:
        return setter.model is None
    return setter.layer != mover.layer
