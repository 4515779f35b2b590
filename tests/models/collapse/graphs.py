"""Small request-shaped graphs built node by node, and requests for them."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from models.collapse.collapse import collapse
from models.collapse.parity import check_collapsed
from models.manifest import GraphInput

IDS = 9
_TYPES = {"int32": TensorProto.INT32, "float32": TensorProto.FLOAT}


class Graph:
    """An ONNX graph in the making; each method adds one node and gives its output's name."""

    def __init__(self, seed=0):
        self.rng = np.random.default_rng(seed)
        self.nodes, self.weights, self.inputs, self.outputs = [], [], [], {}
        self.count = 0

    def fresh(self, stem):
        self.count += 1
        return f"{stem}{self.count}"

    def input(self, name, axis, width, dtype="float32"):
        self.inputs.append(GraphInput(name=name, dtype=dtype, axis=axis, width=width))
        return name

    def row_user(self):
        return self.input("row_user", "rows", None, "int32")

    def constant(self, array, dtype=np.float32):
        name = self.fresh("w")
        self.weights.append(numpy_helper.from_array(np.asarray(array, dtype), name))
        return name

    def whole(self, numbers):
        return self.constant(numbers, np.int64)

    def normal(self, *shape):
        return self.constant(self.rng.standard_normal(shape) / np.sqrt(shape[0]) if shape else self.rng.standard_normal())

    def op(self, op, *inputs, outputs=1, **attributes):
        names = [self.fresh(op.lower()) for _ in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), names, **attributes))
        return names[0] if outputs == 1 else names

    def linear(self, x, size, width, *, bias=True):
        return self.op("Gemm", x, self.normal(size, width), *([self.normal(width)] if bias else []))

    def to_rows(self, x):
        return self.op("Gather", x, "row_user", axis=0)

    def batch_norm(self, x, width):
        statistics = [self.normal(width), self.normal(width), self.normal(width)]
        variance = self.constant(self.rng.uniform(0.3, 2, width))
        return self.op("BatchNormalization", x, *statistics, variance, epsilon=1e-5)

    def probability(self, x, name="like"):
        """[rows, 1] to the output [rows]."""
        self.output(name, self.op("Sigmoid", self.op("Squeeze", x, self.whole([-1]))))

    def output(self, name, x, *rest):
        self.outputs[name] = rest
        self.nodes.append(helper.make_node("Identity", [x], [name]))

    def model(self):
        inputs = [
            helper.make_tensor_value_info(each.name, _TYPES[each.dtype], [each.axis, *([each.width] if each.width else [])])
            for each in self.inputs
        ]
        outputs = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", *rest]) for name, rest in self.outputs.items()
        ]
        graph = helper.make_graph(self.nodes, "plain", inputs, outputs, self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        onnx.checker.check_model(model, full_check=True)
        return model


def request(inputs, users, rows, seed=0):
    """Inputs of one request: ids below ``IDS``, zeros at the end of histories."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for each in inputs:
        count = users if each.axis == "users" else rows
        if each.name == "row_user":
            arrays[each.name] = np.sort(rng.integers(0, users, rows)).astype(np.int32)
        elif each.dtype == "int32":
            arrays[each.name] = rng.integers(0, IDS, (count, each.width)).astype(np.int32)
        else:
            arrays[each.name] = rng.standard_normal((count, each.width)).astype(np.float32)
        if each.name == "history":
            lengths = rng.integers(0, each.width + 1, count)
            arrays[each.name][np.arange(each.width) >= lengths[:, None]] = 0
    return arrays


def requests(inputs, seed=0):
    """One user, many users, one row, a user without rows."""
    sizes = {"one_user": (1, 7), "many_users": (4, 13), "one_row": (1, 1), "idle_user": (5, 2)}
    return {name: request(inputs, *size, seed=seed + place) for place, (name, size) in enumerate(sizes.items())}


def collapsed(graph, **options):
    """The forms of a graph, which have passed the gate."""
    model = graph.model()
    graphs = collapse(model, graph.inputs, **options)
    assert graphs is not None
    check_collapsed(model, graphs, graph.inputs, requests(graph.inputs))
    return graphs


def operators(model):
    """How often each operator stands in a graph."""
    kinds = [node.op_type for node in model.graph.node]
    return {kind: kinds.count(kind) for kind in kinds}


def input_names(model):
    """Names of a graph's inputs."""
    return {each.name for each in model.graph.input}


def products(model):
    """Shapes of the constant weights that products read, largest first."""
    shapes = {weight.name: tuple(weight.dims) for weight in model.graph.initializer}
    read = [node.input[1] for node in model.graph.node if node.op_type in ("Gemm", "MatMul")]
    return sorted((shapes[name] for name in read if name in shapes), reverse=True)
