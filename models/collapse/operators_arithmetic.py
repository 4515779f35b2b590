"""What ONNX's arithmetic means for values: elementwise work, products, normalization."""

from __future__ import annotations

import numpy as np
import onnx

from models.collapse.graph_ir import MATMUL, NotUnderstoodError, Value, Values
from models.collapse.operation import Operation, Rule
from models.collapse.rewrites_elementwise import add, elementwise, scale
from models.collapse.rewrites_gating import product, scaled_at_layer, unscaled
from models.collapse.rewrites_layout import lifted
from models.collapse.rewrites_linear import linear
from models.collapse.tensors import Tensor, aligned, canonical

_COMPARISONS = ("Greater", "Less", "GreaterOrEqual", "LessOrEqual", "Equal", "Not", "And", "Or", "Xor", "IsNaN", "IsInf")
_MAPS = (
    *(
        "Relu",
        "Sigmoid",
        "Tanh",
        "Neg",
        "Abs",
        "Sqrt",
        "Exp",
        "Log",
        "Reciprocal",
        "Erf",
        "Softplus",
        "LeakyRelu",
        "Elu",
        "Selu",
    ),
    *("Gelu", "HardSigmoid", "Mod", "Max", "Min", "Where", "Cast", "PRelu", "Ceil", "Floor", "Round", "Sign", *_COMPARISONS),
)


def _map(node: Operation) -> list[Tensor]:
    """An operator on each number apart; its attributes are kept."""
    tensors = [tensor for tensor in node.operands if tensor is not None]
    if len(tensors) != len(node.operands):
        raise NotUnderstoodError(f"{node.op} with an operand left out")
    inputs, merged = aligned(node.values, tensors)
    kept = tuple((name, value) for name, value in sorted(node.attributes.items()))
    dtype = _result_type(node, inputs)
    return [canonical(node.values, elementwise(node.values, node.op, inputs, dtype, kept), merged)]


def _result_type(node: Operation, inputs: list[Value]) -> np.dtype:
    if node.op in _COMPARISONS:
        return np.dtype(bool)
    if node.op == "Cast":
        return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(node.attributes["to"]))
    return inputs[1].dtype if node.op == "Where" else inputs[0].dtype


def _clip(node: Operation) -> list[Tensor]:
    """Clip as Max and Min, which take left-out bounds for none."""
    tensor, bounds = node.tensor(0), ("Max", "Min")
    for place, op in enumerate(bounds, start=1):
        if place < len(node.operands) and node.operands[place] is not None:
            limit = node.tensor(place)
            inputs, merged = aligned(node.values, [tensor, limit])
            tensor = canonical(node.values, elementwise(node.values, op, inputs, tensor.value.dtype), merged)
    return [tensor]


def _add(node: Operation) -> list[Tensor]:
    return _sum_of(node, 1.0) if node.tensor(0).value.dtype == np.float32 else _map(node)


def _subtract(node: Operation) -> list[Tensor]:
    return _sum_of(node, -1.0) if node.tensor(0).value.dtype == np.float32 else _map(node)


def _sum_of(node: Operation, sign: float) -> list[Tensor]:
    (left, right), merged = aligned(node.values, [node.tensor(0), node.tensor(1)])
    right = scale(node.values, right, np.array(sign), own=node.own[1])
    return [canonical(node.values, add(node.values, [left, right], opened=node.own), merged)]


def _multiply(node: Operation) -> list[Tensor]:
    places = [place for place in (0, 1) if node.tensor(place).is_constant]
    if node.tensor(0).value.dtype != np.float32:
        return _map(node)
    inputs, merged = aligned(node.values, [node.tensor(0), node.tensor(1)])
    if not places:
        return [canonical(node.values, product(node.values, inputs[0], inputs[1]), merged)]
    own = node.own[1 - places[0]]
    return [canonical(node.values, scale(node.values, inputs[1 - places[0]], inputs[places[0]].constant, own=own), merged)]


def _divide(node: Operation) -> list[Tensor]:
    if not node.tensor(1).is_constant or node.tensor(0).value.dtype != np.float32:
        return _map(node)
    inputs, merged = aligned(node.values, [node.tensor(0), node.tensor(1)])
    with np.errstate(divide="ignore"):
        factor = np.float32(1) / inputs[1].constant
    if not np.isfinite(factor).all():
        raise NotUnderstoodError("division by zero")
    return [canonical(node.values, scale(node.values, inputs[0], factor, own=node.own[0]), merged)]


def _negate(node: Operation) -> list[Tensor]:
    tensor = node.tensor(0)
    if tensor.value.dtype != np.float32:
        return _map(node)
    return [Tensor(scale(node.values, tensor.value, np.array(-1.0), own=node.own[0]), tensor.merged)]


def _power(node: Operation) -> list[Tensor]:
    tensor, exponent = node.tensor(0), node.array(1)
    if exponent.size != 1 or exponent.item() != 2 or tensor.value.dtype != np.float32:
        return _map(node)
    return [Tensor(elementwise(node.values, "Mul", [tensor.value] * 2, tensor.value.dtype), tensor.merged)]


def _batch_norm(node: Operation) -> list[Tensor]:
    """At inference: a factor and an addend for each channel.

    A value that is normalized and also read as it is (Dice) is made by its layer with the factor in it:
    ``rewrites_gating.py``.
    """
    tensor = node.tensor(0)
    if node.attributes.get("training_mode", 0) or tensor.rank != 2:
        raise NotUnderstoodError("batch normalization of another kind")
    gamma, beta, mean, variance = (node.array(place).astype(np.float64) for place in range(1, 5))
    factor = gamma / np.sqrt(variance + node.attributes.get("epsilon", 1e-5))
    scaled = (
        None if node.own[0] or not node.unread[0] else scaled_at_layer(node.values, tensor.value, factor.astype(np.float32))
    )
    if scaled is None:
        scaled = scale(node.values, tensor.value, factor.astype(np.float32), own=node.own[0])
    else:
        node.replaced.append((tensor.value, unscaled(node.values, scaled, factor)))
    shift = node.values.constant((beta - mean * factor).astype(np.float32))
    return [Tensor(add(node.values, [scaled, shift], opened=[not node.replaced, True]), tensor.merged)]


def _gemm(node: Operation) -> list[Tensor]:
    tensor = node.tensor(0)
    if node.attributes.get("transA", 0) or tensor.is_constant or tensor.rank != 2:
        raise NotUnderstoodError("a Gemm of another kind")
    weight = node.array(1).T if node.attributes.get("transB", 0) else node.array(1)
    product = linear(node.values, tensor.value, np.ascontiguousarray(weight * np.float32(node.attributes.get("alpha", 1.0))))
    if len(node.operands) < 3 or node.operands[2] is None:
        return [Tensor(product, tensor.merged)]
    (_, addend), merged = aligned(node.values, [Tensor(product, tensor.merged), node.tensor(2)])
    addend = scale(node.values, addend, np.array(node.attributes.get("beta", 1.0)))
    return [Tensor(add(node.values, [product, addend], opened=[True]), merged)]


def _matmul(node: Operation) -> list[Tensor]:
    left, right = node.tensor(0), node.tensor(1)
    if right.is_constant and len(right.value.tail) == 2 and left.rank > 1:
        return [Tensor(linear(node.values, left.value, node.array(1)), left.merged)]
    if left.is_constant or right.is_constant or left.merged or right.merged:
        raise NotUnderstoodError("a product of another kind")
    return [Tensor(_product(node.values, left.value, right.value))]


def _product(values: Values, left: Value, right: Value) -> Value:
    if len(left.tail) != 2 or len(right.tail) != 2 or left.tail[1] != right.tail[0]:
        raise NotUnderstoodError("a product of another rank")
    tail = (left.tail[0], right.tail[1])
    done = lifted(values, [left, right], lambda inner: _product(values, *inner))
    return done or values.make(MATMUL, [left, right], tail)


ARITHMETIC: dict[str, Rule] = {
    **dict.fromkeys(_MAPS, _map),
    "Clip": _clip,
    "Add": _add,
    "Sub": _subtract,
    "Mul": _multiply,
    "Div": _divide,
    "Neg": _negate,
    "Pow": _power,
    "BatchNormalization": _batch_norm,
    "Gemm": _gemm,
    "MatMul": _matmul,
}
