"""Plan texts and stand-ins that the experiments tests share."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from models.repository import ModelNotFoundError, ModelReference
from service.experiments.params import Params
from service.experiments.plan import ExperimentPlan

FULL_PLAN = """\
version: 1
defaults: {model: din@latest, top_k: 100}
layers:
  - name: ranking
    salt: ranking-layer
    num_buckets: 10000
    owns: [model, top_k]
    experiments:
      - name: din-vs-deepfm
        traffic: [[0, 5000]]
        control: control
        arms:
          - {name: control, buckets: [[0, 5000]], params: {model: deepfm@latest}}
          - {name: treatment, buckets: [[5000, 10000]], params: {model: din@3, top_k: 20}}
      - name: longer-history
        traffic: [5000, 6000]
        arms:
          - {name: short, weight: 12.5}
          - {name: long, weight: 87.5, params: {model: din-long@1}}
  - name: objective
    owns: [score]
    experiments:
      - name: by-cvr
        traffic: [[0, 1000], [9000, 10000]]
        arms:
          - {name: ctr, buckets: [[0, 9999]]}
          - {name: cvr, buckets: [[9999, 10000]], params: {score: cvr}}
"""

PLAIN_SPLIT = """\
version: 1
defaults: {model: deepfm@latest}
layers:
  - name: plain
    salt: ""
    num_buckets: 100
    owns: [model]
    experiments:
      - name: din-rollout
        salt: ""
        num_buckets: 100
        traffic: [[0, 100]]
        control: control
        arms:
          - {name: treatment, buckets: [[0, 10]], params: {model: din@latest}}
          - {name: control, buckets: [[10, 100]]}
"""

FALLBACK = ExperimentPlan(Params("popular@latest"))


def plan_for(model: str) -> str:
    """A plan without experiments that serves one model: texts that tell generations apart."""
    return f"version: 1\ndefaults: {{model: {model}}}\n"


def as_yaml(plan: Mapping[str, Any]) -> str:
    """A plan given as values; JSON is YAML."""
    return json.dumps(plan)


class Published:
    """Known models from a mapping of ``name@version`` to score names."""

    def __init__(self, **scores: tuple[str, ...]) -> None:
        self.scores = {name.replace("__", "@").replace("_", "-"): names for name, names in scores.items()}
        self.asked: list[str] = []

    def score_names(self, reference: ModelReference) -> tuple[str, ...]:
        """The names given, or the repository's error."""
        self.asked.append(str(reference))
        if str(reference) not in self.scores:
            raise ModelNotFoundError(f"{reference}: no published version")
        return self.scores[str(reference)]


def all_published() -> Published:
    """Every model that ``FULL_PLAN`` names, with the scores it may meet."""
    both = ("ctr", "cvr")
    return Published(din__latest=both, deepfm__latest=both, din__3=both, din_long__1=both)
