"""The plan in plain values, every default and derived number written out: for admins and the ``plan check`` command."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from service.experiments.plan import Arm, Experiment, ExperimentPlan, Layer


def describe_plan(plan: ExperimentPlan) -> dict[str, Any]:
    """JSON-ready: the plan with its salts and ranges. ``traffic_share`` is of all units, an arm's ``share`` too."""
    return {"defaults": asdict(plan.defaults), "layers": [_layer(layer) for layer in plan.layers]}


def _layer(layer: Layer) -> dict[str, Any]:
    return {
        "name": layer.name,
        "salt": layer.salt,
        "num_buckets": layer.num_buckets,
        "owns": list(layer.owns),
        "experiments": [_experiment(experiment, layer) for experiment in layer.experiments],
    }


def _experiment(experiment: Experiment, layer: Layer) -> dict[str, Any]:
    traffic_share = sum(map(len, experiment.traffic)) / layer.num_buckets
    return {
        "name": experiment.name,
        "salt": experiment.salt,
        "num_buckets": experiment.num_buckets,
        "traffic": [[piece.start, piece.end] for piece in experiment.traffic],
        "traffic_share": traffic_share,
        "control": experiment.control,
        "arms": [_arm(arm, experiment.num_buckets, traffic_share) for arm in experiment.arms],
    }


def _arm(arm: Arm, num_buckets: int, traffic_share: float) -> dict[str, Any]:
    return {
        "name": arm.name,
        "buckets": [[piece.start, piece.end] for piece in arm.buckets],
        "share": sum(map(len, arm.buckets)) / num_buckets * traffic_share,
        "params": dict(arm.changes),
    }
