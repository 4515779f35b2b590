"""A small valid manifest, as plain data to be bent by tests."""

from __future__ import annotations

from models.manifest import Manifest

SHA = "0" * 64


def manifest_data(**changes):
    """The JSON data of a valid manifest with some keys replaced."""
    data = {
        "schema_version": 1,
        "name": "din",
        "version": 1,
        "created_at": "2024-01-01T00:00:00+00:00",
        "onnx": "model.onnx",
        "opset": 20,
        "encoder": "encoder.json",
        "encoder_fingerprint": SHA,
        "golden": "golden.npz",
        "files": [{"name": name, "sha256": SHA, "size_bytes": 1} for name in ("model.onnx", "encoder.json", "golden.npz")],
        "inputs": [{"name": "row_user", "dtype": "int32", "axis": "rows", "width": None}],
        "outputs": [{"name": "click", "meaning": "probability"}, {"name": "attention", "meaning": "attention"}],
        "views_name": "tiny-shop",
        "history_length": 6,
        "uses_history": True,
        "training": {
            "run_id": "r1",
            "network": "din",
            "label": "click",
            "seed": 0,
            "data_fingerprint": SHA,
            "metrics": {"test_auc": 0.7},
            "library_versions": {"torch": "2"},
        },
        "parity": {"tolerance": 1e-5, "largest": 2e-7, "cases": {"one_row": 1e-7, "many_users": 2e-7}},
    }
    return {**data, **changes}


def manifest_of(name):
    """What ``publish`` wants: builds a manifest for the version and files it is given."""

    def build(version, files):
        data = manifest_data(name=name, version=version)
        return Manifest.model_validate({**data, "files": files}, strict=False)

    return build
