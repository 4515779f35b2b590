"""The benchmark's plans: one model for everybody, and experiments that change nothing but what they cost."""

from __future__ import annotations

from collections.abc import Iterator

from models.bench_world.views import LABEL

# A layer owns a param; its arms set what holds anyway, so that all of the difference is the cost of assigning.
_LAYERS = {"models": "model: deepfm@latest", "scores": f"score: {LABEL}", "answers": "top_k: 5000"}


def model_plan(name: str) -> str:
    """The latest version of one model, no experiments."""
    return f"version: 1\ndefaults:\n  model: {name}@latest\nlayers: []\n"


def experiments_plan() -> str:
    """Three layers of two experiments of two arms; every user is in one experiment of each layer."""
    return "version: 1\ndefaults:\n  model: deepfm@latest\nlayers:\n" + "".join(_layers())


def _layers() -> Iterator[str]:
    for name, params in _LAYERS.items():
        yield f"  - name: {name}\n"
        yield f"    owns: [{params.partition(':')[0]}]\n    experiments:\n"
        for half, traffic in (("first", "[0, 5000]"), ("second", "[5000, 10000]")):
            yield f"      - name: {name}-{half}\n        traffic: {traffic}\n        arms:\n"
            for arm in ("control", "variant"):
                yield f"          - {{name: {arm}, weight: 50, params: {{{params}}}}}\n"
