"""The GPU benchmark's binary bodies are the documented ones; without a GPU it says so and is no failure."""

from __future__ import annotations

import json
import struct
import sys

import numpy as np
import onnxruntime
import pytest

from loadtest.bench import gpu_run
from loadtest.bench.bodies import Bodies
from loadtest.bench.gpu_run import AIM, MUST


def test_binary_bodies_ask_for_the_same_as_json_ones(tmp_path):
    ids = tmp_path / "ids.json"
    ids.write_text(json.dumps({"users": [1, 2, 1 << 40], "items": list(range(100, 160))}))
    given = {"ids": str(ids), "candidates": 7, "count": 16, "top_k": 3, "fields": '{"context": {"hour": "h1"}}'}
    for plain, binary in zip(Bodies(**given).requests(), Bodies(**given, binary=True).requests(), strict=True):
        asked = json.loads(plain.partition(b"\r\n\r\n")[2])
        head, _, body = binary.partition(b"\r\n\r\n")
        magic, version, flags, count, text, user_text, options, user = struct.unpack_from("<4sHHIIIIq", body)
        assert (magic, version, flags, text, user_text) == (b"RKRQ", 1, 0, 0, 0)
        assert (user, np.frombuffer(body, "<i8", count, 32).tolist()) == (asked.pop("user_id"), asked.pop("candidates"))
        assert json.loads(body[32 + 8 * count :]) == asked
        assert len(body) == 32 + 8 * count + options
        lines = head.decode().split("\r\n")
        for name in ("Content-Type", "Accept"):
            assert f"{name}: application/vnd.rankline.rank.v1" in lines
        assert f"Content-Length: {len(body)}" in lines


@pytest.mark.parametrize("providers", [["CPUExecutionProvider"], ["CUDAExecutionProvider", "CPUExecutionProvider"]])
def test_without_cuda_or_its_device_it_says_so_and_writes_nothing(monkeypatch, tmp_path, capsys, providers):
    def no_device(*_):
        raise RuntimeError("no driver")

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: providers)
    monkeypatch.setattr(onnxruntime.OrtValue, "ortvalue_from_numpy", staticmethod(no_device))
    monkeypatch.setattr(sys, "argv", ["gpu_run", "--world", str(tmp_path / "world"), "--out", str(tmp_path / "out")])
    assert gpu_run.main() == 0
    assert capsys.readouterr().out.startswith("no CUDA: ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("best", "verdict"), [(1.9e6, "missed"), (MUST, "must"), (AIM, "aim")])
def test_the_verdict_is_over_the_best_row_and_a_rehearsal_has_none(best, verdict):
    series = {"median": best, "min": best, "max": best}
    times = {"p50_ms": 1.0, "p99_ms": 2.0, "refused": 0, "failed": 0, "generator_busy_max": 0.5}
    results = {
        "machine": {"gpu": "a GPU"},
        "provider": "cuda",
        "bare": [{"rows": 200, "inputs": "arrays of the host", "candidates_per_s": series}],
        "service": [{"rows": 200, "form": "plain", "candidates_per_s": series, **times}],
        "target": {"must": MUST, "aim": AIM, "best": best},
    }
    assert gpu_run.text_of(results).endswith(f": {verdict}")
    assert "rehearsal" in gpu_run.text_of({**results, "provider": "cpu"}).splitlines()[-1]
