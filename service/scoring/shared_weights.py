"""Large tables of a version in one place for all its sessions, and for all processes: mapped files, never copied."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from service.scoring.batch import Array
from service.scoring.errors import ModelRefusedError


class SharedWeights:
    """Initializers by name, each an npy file whose content must not change any more.

    A graph names such a table as external data of its file; the npy header is skipped by the offset, so that the version is
    plain ONNX for other tools. Measured with ONNX Runtime 1.31 and two sessions over one table of 410 MB: 1,209 MB of own
    memory when the file's bytes are handed over (each session copies them, and the bytes stay), 37 MB this way, of which 21
    are Python's, and only touched pages of the table are in memory at all. It pays for tables that are gathered from;
    weights of matrix products are packed anew by each session anyway.
    """

    def __init__(self, files: Mapping[str, Path]) -> None:
        """``files``: by the initializer that each holds. The caller has checked their hashes.

        Raises:
            ModelRefusedError: not an npy file of a plain array.
        """
        self._sizes: dict[str, int] = {}
        self._tables: dict[str, Array] = {}
        for name, path in files.items():
            try:
                table = np.load(path, mmap_mode="r", allow_pickle=False)
                size = path.stat().st_size
            except (OSError, ValueError, EOFError) as error:
                raise ModelRefusedError(f"{path.name}: not an npy file of a plain array: {error}") from None
            if not isinstance(table, np.ndarray) or not table.flags.c_contiguous:
                raise ModelRefusedError(f"{path.name}: not one array in C order")
            self._sizes[path.name] = size
            self._tables[name] = table
        self._placed: dict[str, Mapping[str, Any]] = {}

    def on(self, device: str, place: Callable[[Array, str], Any]) -> Mapping[str, Any]:
        """The tables as values of the engine on a device; placed there once for all sessions."""
        if device not in self._placed:
            self._placed[device] = {name: place(table, device) for name, table in self._tables.items()}
        return self._placed[device]

    def write_stand_ins(self, directory: Path) -> None:
        """Empty files of the right names and sizes: ONNX Runtime looks for them before it takes what it is given instead.

        Whatever a graph reads from them all the same is zeros, which no golden row survives.
        """
        for name, size in self._sizes.items():
            with (directory / name).open("wb") as file:
                file.truncate(size)
