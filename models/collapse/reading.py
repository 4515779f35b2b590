"""An ONNX graph read into values. Reading applies the rewritings: each value is made by the functions that simplify it.

An operation that is not understood is a barrier: it is kept as it stands, and its result is live. What even that does not fit
(control flow, shapes that are computed, a leading axis that is neither users nor rows) raises ``NotUnderstoodError``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from models.collapse.dependence import ROW_USER, source_of
from models.collapse.graph_ir import INPUT, OPAQUE, Attributes, Axis, NotUnderstoodError, Source, Value, Values
from models.collapse.operation import Operation, Rule
from models.collapse.operators_arithmetic import ARITHMETIC
from models.collapse.operators_layout import LAYOUT
from models.collapse.shapes import Shapes
from models.collapse.tensors import Tensor
from models.manifest import GraphInput

OPERATORS: dict[str, Rule] = {**ARITHMETIC, **LAYOUT}
_MOST_WEIGHT_BYTES = 1_900_000_000
_LAYOUTS = ("Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand")
_RANDOM = ("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike")
_OLDEST_OPSET = 13
"""Before it Softmax, Squeeze and others mean something else or are given otherwise."""
_WHOLE = (onnx.TensorProto.INT32, onnx.TensorProto.INT64)


@dataclass(slots=True)
class ReadGraph:
    """The outputs as values, and what the forms need to know of the graph."""

    values: Values
    outputs: dict[str, Tensor]
    axes: dict[str, Axis]
    """The axis of each input but ``row_user``."""


def read_graph(model: onnx.ModelProto, inputs: Sequence[GraphInput]) -> ReadGraph:
    """The graph's outputs.

    Raises:
        NotUnderstoodError: the graph has something that cannot be kept, even as a barrier.
    """
    if sum(len(weight.raw_data) for weight in model.graph.initializer) > _MOST_WEIGHT_BYTES:
        raise NotUnderstoodError("more weights than a protocol buffer holds")
    if model.functions or model.graph.sparse_initializer:
        raise NotUnderstoodError("functions or sparse weights")
    if max((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), default=0) < _OLDEST_OPSET:
        raise NotUnderstoodError(f"operators before opset {_OLDEST_OPSET}")
    try:
        return _Reader(model, inputs).read()
    except (onnx.shape_inference.InferenceError, LookupError, ValueError, TypeError) as error:
        # A shape or an attribute that no rule reckons with; the plain graph is there and right.
        raise NotUnderstoodError(f"unexpected: {error}") from error


class _Reader:
    def __init__(self, model: onnx.ModelProto, inputs: Sequence[GraphInput]) -> None:
        self.model = onnx.shape_inference.infer_shapes(model)
        self.graph = self.model.graph
        self.values = Values()
        self.tensors: dict[str, Tensor] = {}
        self.row_user: set[str] = set()
        self.shapes = Shapes(self.values, self.tensors, self.row_user)
        self.layouts = {node.output[0]: node.input[0] for node in self.graph.node if node.op_type in _LAYOUTS}
        self.uses = Counter(name for node in self.graph.node for name in node.input)
        self.uses.update(output.name for output in self.graph.output)
        self.types = {info.name: info.type.tensor_type for info in (*self.graph.value_info, *self.graph.output)}
        self.read_values: set[int] = set()
        self.leading: dict[str, Axis] = {}
        self.axes: dict[str, Axis] = {}
        for weight in self.graph.initializer:
            self.tensors[weight.name] = Tensor(self.values.constant(numpy_helper.to_array(weight)))
        declared = {each.name: each for each in inputs}
        for tensor in self.graph.input:
            self._read_input(tensor, declared)

    def _read_input(self, tensor: onnx.ValueInfoProto, declared: dict[str, GraphInput]) -> None:
        if tensor.name not in declared:
            raise NotUnderstoodError(f"input {tensor.name!r} is not declared")
        each = declared[tensor.name]
        if each.name == ROW_USER:
            self.row_user.add(each.name)
            return
        if each.width is None:
            raise NotUnderstoodError(f"input {each.name!r} is a vector")
        axis = self.axes[each.name] = Axis(each.axis)
        self.leading[tensor.type.tensor_type.shape.dim[0].dim_param] = axis
        value = self.values.make(
            INPUT,
            [],
            (each.width,),
            attributes=(("name", each.name),),
            dtype=np.dtype(each.dtype),
            axis=axis,
            sources=frozenset({source_of(each)}),
        )
        self.tensors[each.name] = Tensor(value)

    def read(self) -> ReadGraph:
        for node in self.graph.node:
            self._read_node(node)
        outputs = {output.name: self._tensor(output.name) for output in self.graph.output}
        if any(tensor.value.axis is not Axis.ROWS for tensor in outputs.values()):
            raise NotUnderstoodError("an output that is not one of rows")
        return ReadGraph(self.values, outputs, self.axes)

    def _tensor(self, name: str) -> Tensor:
        if name not in self.tensors:
            raise NotUnderstoodError(f"{name!r} is no tensor of users or rows")
        return self.tensors[name]

    def _read_node(self, node: onnx.NodeProto) -> None:
        if any(attribute.type in (attribute.GRAPH, attribute.GRAPHS) for attribute in node.attribute):
            raise NotUnderstoodError(f"{node.op_type} holds a graph of its own")
        if _is_random(node, self.tensors):
            raise NotUnderstoodError(f"{node.op_type} says something else each time")
        if self._is_row_user(node):
            self.row_user.add(node.output[0])
            return
        if self._spread(node) or self._folded(node) or self.shapes.read(node):
            return
        try:
            tensors = self._understood(node)
        except NotUnderstoodError:
            tensors = self._barrier(node)
        self.tensors.update(zip(node.output, tensors, strict=False))

    def _is_row_user(self, node: onnx.NodeProto) -> bool:
        """Whether ``node`` gives ``row_user`` as it is: the same whole numbers as a vector."""
        if not node.input or node.input[0] not in self.row_user:
            return False
        if node.op_type == "Cast":
            return any(each.name == "to" and each.i in _WHOLE for each in node.attribute)
        if node.op_type == "Reshape":
            target = self.tensors.get(node.input[1])
            return target is not None and target.is_constant and target.value.constant.tolist() == [-1]
        return node.op_type == "Identity"

    def _spread(self, node: onnx.NodeProto) -> bool:
        """``Gather(x, row_user)``: the value of users for each row."""
        if node.op_type != "Gather" or node.input[1] not in self.row_user:
            return False
        source = self._tensor(node.input[0])
        axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
        if axis != 0 or source.value.axis is not Axis.USERS or (source.merged and source.value.tail[0] != 1):
            raise NotUnderstoodError("row_user gathers something else than users")
        self.tensors[node.output[0]] = Tensor(self.values.spread(source.value), source.merged)
        return True

    def _folded(self, node: onnx.NodeProto) -> bool:
        """What depends on no input is computed now."""
        names = [name for name in node.input if name]
        if not all(name in self.tensors and self.tensors[name].is_constant for name in names):
            return False
        if not names and node.op_type not in ("Constant", "ConstantOfShape"):
            raise NotUnderstoodError(f"{node.op_type} makes something of nothing")
        arrays = {name: self.tensors[name].value.constant for name in names}
        try:
            results = ReferenceEvaluator(node).run(None, arrays)
        except Exception as error:
            # The evaluator's operators raise whatever numpy does.
            raise NotUnderstoodError(f"{node.op_type} of constants: {error}") from error
        for name, result in zip(node.output, results, strict=False):
            self.tensors[name] = Tensor(self.values.constant(np.asarray(result)))
        return True

    def _understood(self, node: onnx.NodeProto) -> list[Tensor]:
        rule = OPERATORS.get(node.op_type) if node.domain == "" else None
        if rule is None:
            raise NotUnderstoodError(f"no rule for {node.op_type}")
        attributes = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
        target = self.shapes.target(node)
        names = node.input if target is None else node.input[:1]
        operands = [*(self._tensor(name) if name else None for name in names), *([target] if target else [])]
        own = [self._read_once(name) for name in node.input]
        unread = [each is not None and id(each.value) not in self.read_values for each in operands]
        operation = Operation(self.values, node.op_type, operands, own, attributes, len(node.output), unread)
        tensors = rule(operation)
        if node.op_type not in _LAYOUTS:
            self.read_values.update(id(each.value) for each in operands if each is not None)
        self._replace(operation.replaced)
        return tensors

    def _replace(self, replaced: list[tuple[Value, Value]]) -> None:
        """Later nodes read another value under every name of the old one."""
        for old, new in replaced:
            names = [name for name, tensor in self.tensors.items() if tensor.value is old]
            self.tensors.update({name: Tensor(new, self.tensors[name].merged) for name in names})

    def _read_once(self, name: str) -> bool:
        """Whether nothing reads ``name`` twice, under any name that a change of layout gives it."""
        while self.uses[name] == 1 and name in self.layouts:
            name = self.layouts[name]
        return self.uses[name] == 1

    def _barrier(self, node: onnx.NodeProto) -> list[Tensor]:
        tensors = [self._tensor(name) for name in node.input if name]
        axes = {tensor.value.axis for tensor in tensors} - {None}
        if len(axes) != 1:
            raise NotUnderstoodError(f"{node.op_type} over both axes")
        shapes = tuple((-1, *tensor.rest) if not tensor.is_constant else tensor.value.tail for tensor in tensors)
        kept = node.SerializeToString(deterministic=True)
        outputs = []
        for place, name in enumerate(node.output):
            rest = self._inferred_rest(name, next(iter(axes))) if name else (1,)
            attributes = (("node", kept), ("output", place), ("shapes", shapes))
            outputs.append(self._kept([tensor.value for tensor in tensors], rest, attributes, name))
        return outputs

    def _kept(self, inputs: list[Value], rest: tuple[int, ...], attributes: Attributes, name: str) -> Tensor:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(self.types[name].elem_type) if name else np.dtype(np.float32)
        barrier = frozenset({Source.BARRIER})
        value = self.values.make(OPAQUE, inputs, rest, attributes=attributes, dtype=dtype, sources=barrier)
        return Tensor(value)

    def _inferred_rest(self, name: str, axis: Axis | None) -> tuple[int, ...]:
        """The shape behind the leading axis, from ONNX's own inference.

        Raises:
            NotUnderstoodError: it is not known, or nothing, or the leading axis is not that of the inputs.
        """
        dims = self.types[name].shape.dim if name in self.types and self.types[name].HasField("shape") else []
        if len(dims) < 2 or self.leading.get(dims[0].dim_param) is not axis or any(dim.dim_value < 1 for dim in dims[1:]):
            raise NotUnderstoodError(f"the shape of {name!r} is not known")
        return tuple(dim.dim_value for dim in dims[1:])


def _is_random(node: onnx.NodeProto, tensors: Mapping[str, Tensor]) -> bool:
    """Whether ``node`` draws numbers: as its purpose, or as a Dropout that may be training."""
    if node.op_type != "Dropout" or len(node.input) < 3 or not node.input[2]:
        return node.op_type in _RANDOM
    training = tensors.get(node.input[2])
    return training is None or not training.is_constant or bool(training.value.constant.any())
