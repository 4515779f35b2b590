"""Large tables of a version's graphs in files of their own, one for all graphs that gather from the same table.

The file is an npy array, called after the initializer; in the graph it is plain ONNX external data that begins behind the npy
header. So any tool reads the version, and a server maps each table once for all its sessions and processes. Weights of matrix
products stay in the graph: engines pack them anew for each session anyway.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from models.manifest import WEIGHT_FILE

TABLE_BYTES = 1_048_576
"""Tables above this size get a file of their own."""
GRAPH_BYTES = 2_000_000_000
"""Protocol buffers end at 2 GiB: of a graph that would be larger all weights above ``TABLE_BYTES`` get files."""
_LONGEST_NAME = 60


def save_graph(model: onnx.ModelProto, path: Path) -> None:
    """Write ``path`` and, beside it, the tables that are not there yet. Their initializers are renamed in ``model``."""
    moved = {each.name for each in _gathered(model.graph) if _size(each) > TABLE_BYTES}
    left = sum(_size(each) for each in model.graph.initializer if each.name not in moved)
    if left > GRAPH_BYTES:
        moved = {each.name for each in model.graph.initializer if _size(each) > TABLE_BYTES}
    renamed: dict[str, str] = {}
    for place in reversed(range(len(model.graph.initializer))):
        tensor = model.graph.initializer[place]
        if tensor.name in moved:
            before = tensor.name
            after = _move(tensor, path.parent)
            if after in renamed.values():  # tables of the same content are one from here on
                del model.graph.initializer[place]
            renamed[before] = after
    _rename(model.graph, renamed)
    onnx.save(model, path)


def _gathered(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Initializers that nothing but Gather reads; none where the graph has graphs inside, which could read any."""
    others = {value.name for value in graph.output}
    for node in graph.node:
        if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
            return
        others.update(node.input[1:] if node.op_type == "Gather" else node.input)
    yield from (each for each in graph.initializer if each.name not in others)


def _size(tensor: onnx.TensorProto) -> int:
    return int(math.prod(tensor.dims) * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)


def _move(tensor: onnx.TensorProto, directory: Path) -> str:
    """The tensor's content to its file, unless another graph brought it there; its name from now on."""
    table = np.ascontiguousarray(numpy_helper.to_array(tensor))
    digest = hashlib.sha256(f"{table.dtype.str}{table.shape}".encode() + table.tobytes()).hexdigest()[:16]
    path = next(directory.glob(f"weight.*.{digest}.npy"), None)
    if path is None:
        readable = re.sub(r"[^A-Za-z0-9_.-]", "_", tensor.name)[:_LONGEST_NAME]
        path = directory / f"weight.{readable}.{digest}.npy"
        np.save(path, table)
    match = WEIGHT_FILE.fullmatch(path.name)
    assert match is not None
    tensor.CopyFrom(onnx.TensorProto(name=match["initializer"], data_type=tensor.data_type, dims=tensor.dims))
    tensor.data_location = onnx.TensorProto.EXTERNAL
    place = {"location": path.name, "offset": path.stat().st_size - table.nbytes, "length": table.nbytes}
    for key, value in place.items():
        tensor.external_data.add(key=key, value=str(value))
    return match["initializer"]


def _rename(graph: onnx.GraphProto, renamed: dict[str, str]) -> None:
    for node in graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = renamed.get(name, name)
    kept = [value for value in graph.value_info if value.name not in renamed]
    del graph.value_info[:]
    graph.value_info.extend(kept)
