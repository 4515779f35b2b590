"""The arms of one experiment: together they hold every bucket once."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from service.experiments.plan_schema import DEFAULT_BUCKETS
from service.experiments.ranges import BucketRange, gaps, outside_and_overlaps
from service.experiments.sound_node import SoundNode


def arm_problems(experiment: SoundNode) -> Iterator[str]:
    """What is wrong with the arms' shares; silent where a broken part makes the question open."""
    arms = experiment.each("arms")
    if not arms or not experiment.holds_mappings("arms"):
        return
    unclear = list(_share_given_once(arms))
    yield from unclear
    by_weight = [arm.has("weight") for arm in arms]
    if any(by_weight) and not all(by_weight) and not unclear:
        yield experiment.at("arms", reason="some arms give buckets and some weight; give the same in all")
    elif not unclear:
        yield from _share_problems(experiment, arms, key="weight" if by_weight[0] else "buckets")


def _share_given_once(arms: list[SoundNode]) -> Iterator[str]:
    for arm in arms:
        if arm.has("buckets") and arm.has("weight"):
            yield arm.at(reason="give buckets or weight, not both")
        elif not arm.has("buckets") and not arm.has("weight"):
            yield arm.at(reason="has no share; give buckets or weight")


def _share_problems(experiment: SoundNode, arms: list[SoundNode], key: str) -> Iterator[str]:
    num_buckets = experiment.get("num_buckets", DEFAULT_BUCKETS)
    if num_buckets is None or any(arm.is_broken(key) for arm in arms):
        return
    if key == "weight":
        yield from _weight_problems(experiment, arms, num_buckets)
    else:
        yield from _tiling_problems(experiment, arms, num_buckets)


def _tiling_problems(experiment: SoundNode, arms: list[SoundNode], num_buckets: int) -> Iterator[str]:
    owned = [(arm.at("buckets"), piece) for arm in arms for piece in arm.ranges("buckets")]
    yield from outside_and_overlaps(owned, num_buckets)
    for gap in gaps((piece for _, piece in owned), num_buckets):
        yield experiment.at("arms", reason=f"buckets {gap} belong to no arm; the arms must cover [0, {num_buckets})")


def _weight_problems(experiment: SoundNode, arms: list[SoundNode], num_buckets: int) -> Iterator[str]:
    weights = [exact_weight(arm.get("weight")) for arm in arms]
    for arm, weight in zip(arms, weights, strict=True):
        buckets = weight * num_buckets / 100
        if buckets.denominator != 1:
            reason = f"{arm.get('weight')}% of {num_buckets} buckets is {float(buckets)} buckets; give a whole number or ranges"
            yield arm.at("weight", reason=reason)
    if sum(weights) != 100:
        yield experiment.at("arms", reason=f"the weights sum to {float(sum(weights))}%, not to 100%")


def exact_weight(weight: float) -> Fraction:
    """The decimal that was written (33.3 is 333/10, not its nearest double)."""
    return Fraction(str(weight))


def weight_ranges(weights: list[float], num_buckets: int) -> list[tuple[BucketRange, ...]]:
    """Ranges of the arms in their order, each beginning where the last ended; an arm of weight 0 has none."""
    ranges: list[tuple[BucketRange, ...]] = []
    start = 0
    for weight in weights:
        end = start + int(exact_weight(weight) * num_buckets / 100)
        ranges.append((BucketRange(start, end),) if end > start else ())
        start = end
    return ranges
