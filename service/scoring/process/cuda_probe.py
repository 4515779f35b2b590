"""Can CUDA be used here? Asked in a process of its own: the answer takes ONNX Runtime and a place on the device to find."""

from __future__ import annotations

import subprocess
import sys

_PATIENCE_S = 60.0


def finds_cuda() -> bool:
    """Whether a process started now could run graphs by CUDA. Blocks: a second, or more where there is a device."""
    command = [sys.executable, "-m", "service.scoring.process.cuda_probe"]
    try:
        probe = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_PATIENCE_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return probe.returncode == 0


if __name__ == "__main__":
    from service.scoring.onnx_session import cuda_is_usable

    sys.exit(0 if cuda_is_usable() else 1)
