"""A network to a request-shaped ONNX graph: users and rows are two free axes, probabilities come out."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn
from torch.export import Dim

from models.weight_files import GRAPH_BYTES, save_graph
from models.zoo.din import ATTENTION
from models.zoo.inputs import Batch, InputTensor, NetworkInputs, input_tensors
from models.zoo.registry import Network

OPSET = 20


class ScoringGraph(nn.Module):
    """The exported computation: the network in evaluation mode, its logit as a probability."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.eval()

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """A batch to the label's probability [rows] and, where the network has it, attention [rows, T]."""
        outputs = self.network(batch)
        return {**outputs, self.network.label: torch.sigmoid(outputs[self.network.label])}


@dataclass(frozen=True, slots=True)
class GraphShape:
    """Names of a graph's tensors, in their order."""

    inputs: tuple[InputTensor, ...]
    outputs: tuple[str, ...]

    @classmethod
    def of(cls, network: Network, inputs: NetworkInputs, example: Batch) -> GraphShape:
        """The inputs that the network reads, and the outputs that it gives for ``example``."""
        with torch.inference_mode():
            outputs = tuple(ScoringGraph(network)(example))
        return cls(input_tensors(inputs, uses_history=network.uses_history), outputs)

    def select(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors that are inputs of the graph, in its order."""
        return {tensor.name: tensors[tensor.name] for tensor in self.inputs}


def write_graph(network: Network, shape: GraphShape, example: Batch, path: Path) -> None:
    """Export, check with ONNX's own checker, and write ``path``, large tables in files of their own beside it.

    ``example`` needs at least two users and two rows: torch takes an axis of one for a constant.

    Raises:
        onnx.checker.ValidationError: torch wrote an invalid graph.
    """
    axes = {"users": Dim("users", min=1), "rows": Dim("rows", min=1)}
    with _quiet_exporter():
        program = torch.onnx.export(
            ScoringGraph(network),
            kwargs={"batch": shape.select(example)},
            dynamic_shapes={"batch": {tensor.name: {0: axes[tensor.axis]} for tensor in shape.inputs}},
            input_names=[tensor.name for tensor in shape.inputs],
            output_names=list(shape.outputs),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export gave no program")
    weights = sum(weight.numel() * weight.element_size() for weight in network.parameters())
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        whole = Path(scratch) / path.name
        program.save(whole, external_data=weights > GRAPH_BYTES)
        save_graph(onnx.load(whole), path)
    onnx.checker.check_model(path, full_check=True)


def attention_output(shape: GraphShape) -> str | None:
    """The name of the attention output, if the graph has one."""
    return ATTENTION if ATTENTION in shape.outputs else None


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Silence what the exporter says of itself: torchvision's absence, its deprecated calls, axes named once only."""
    registration = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = registration.level
    registration.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning)
            warnings.filterwarnings("ignore", r"# The axis name: (rows|users) will not be used", UserWarning)
            yield
    finally:
        registration.setLevel(level)
