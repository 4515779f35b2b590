"""The three graphs of a collapsed network written from its values: the item's part, and the forms for one user and for many."""

from __future__ import annotations

from enum import Enum

import numpy as np
import onnx
from onnx import helper

from models.collapse import form_operators
from models.collapse.columns import ItemColumns
from models.collapse.dependence import ROW_USER, Kind, kind_of
from models.collapse.graph_ir import INPUT, SPREAD, Axis, NotUnderstoodError, Value
from models.collapse.reading import ReadGraph
from models.collapse.writing import GraphText, Written
from models.manifest import ITEM_PART


class Form(Enum):
    """What a graph computes."""

    ITEM = "item"
    ONE_USER = "one_user"
    MANY_USERS = "many_users"


class FormWriter:
    """Writes values as one form of the graph."""

    def __init__(self, form: Form, read: ReadGraph, columns: ItemColumns, plain: onnx.ModelProto) -> None:
        self.form, self.read, self.columns, self.plain = form, read, columns, plain
        self.text = GraphText()
        self.used: set[str] = set()
        self._written: dict[int, Written] = {}
        self._rows_shape: str | None = None

    @property
    def one_user(self) -> bool:
        """Whether the form is the one for one user."""
        return self.form is Form.ONE_USER

    def outputs(self) -> onnx.ModelProto:
        """A form with the plain graph's outputs."""
        for name, tensor in self.read.outputs.items():
            if np.prod(tensor.value.tail[: tensor.merged], dtype=int) != 1:
                raise NotUnderstoodError(f"output {name!r} is not one of rows")
            self._output(name, self.rows(tensor.value, tensor.rest))
        return self.text.model(self._inputs(), list(self.plain.graph.output), self.plain)

    def item_part(self) -> onnx.ModelProto:
        """The item's part: all columns side by side."""
        parts = []
        for value in self.columns.values():
            name = self.view(value, (value.width,))
            parts.append(name if value.dtype == np.float32 else self.text.node("Cast", [name], to=onnx.TensorProto.FLOAT))
        self._output(ITEM_PART, self.text.node("Concat", parts, axis=1) if len(parts) > 1 else parts[0])
        output = helper.make_tensor_value_info(ITEM_PART, onnx.TensorProto.FLOAT, ["rows", self.columns.width])
        return self.text.model(self._inputs(), [output], self.plain)

    def _output(self, name: str, made: str) -> None:
        self.text.nodes.append(helper.make_node("Identity", [made], [name]))

    def _inputs(self) -> list[onnx.ValueInfoProto]:
        """The plain graph's inputs that are read, the item part before those of rows."""
        kept = [each for each in self.plain.graph.input if each.name in self.used]
        users = [each for each in kept if not self._of_rows(each)]
        rows = [each for each in kept if self._of_rows(each)]
        if self.form is Form.ONE_USER:
            users = [_for_one(each) for each in users]
        if ITEM_PART in self.used:
            users.append(helper.make_tensor_value_info(ITEM_PART, onnx.TensorProto.FLOAT, ["rows", self.columns.width]))
        return users + rows

    def _of_rows(self, tensor: onnx.ValueInfoProto) -> bool:
        return tensor.name == ROW_USER or self.read.axes[tensor.name] is Axis.ROWS

    def written(self, value: Value) -> Written:
        """The tensor of ``value`` in the layout that it is made in."""
        if id(value) not in self._written:
            self._written[id(value)] = self._write(value)
        return self._written[id(value)]

    def _write(self, value: Value) -> Written:
        if value.data is not None:
            return Written(self.text.weight(value.data), value.tail)
        if self.form is not Form.ITEM and self.columns.takes(value):
            return self._column(value)
        if value.op == INPUT:
            name = str(value.attribute("name"))
            self.used.add(name)
            return Written(name, value.tail)
        if value.op == SPREAD:
            return self._spread(value)
        return form_operators.WRITERS[value.op](self, value)

    def view(self, value: Value, rest: tuple[int, ...]) -> str:
        """The tensor of ``value`` with the shape ``rest`` behind its leading axis."""
        return self.text.viewed(self.written(value), rest)

    def _column(self, value: Value) -> Written:
        start = self.columns.place_of(value)
        self.used.add(ITEM_PART)
        shape = self.text.shape
        name = self.text.node("Slice", [ITEM_PART, shape([start]), shape([start + value.width]), shape([1])])
        if value.dtype != np.float32:
            name = self.text.node("Cast", [name], to=helper.np_dtype_to_tensor_dtype(value.dtype))
        return Written(name, (value.width,))

    def _spread(self, value: Value) -> Written:
        """Users for each of their rows: by broadcasting for one user, gathered as late as can be for many."""
        (inner,) = value.inputs
        if self.form is Form.ONE_USER:
            return self.written(inner)
        self.used.add(ROW_USER)
        rest = self.written(inner).rest
        rest = rest if np.prod(rest, dtype=int) == inner.width else inner.tail
        return Written(self.text.node("Gather", [self.view(inner, rest), ROW_USER], axis=0), rest)

    def of_one(self, value: Value) -> bool:
        """Whether the tensor of a value of rows has a leading axis of 1, for its one user."""
        return self.form is Form.ONE_USER and value.axis is Axis.ROWS and kind_of(value) is Kind.USER

    def rows(self, value: Value, rest: tuple[int, ...]) -> str:
        """As ``view``, and with all its rows where they would otherwise come by broadcasting."""
        if value.data is not None:
            name = self.text.weight(np.broadcast_to(value.data, value.tail)[None])
        elif self.of_one(value):
            name = self.view(value, rest)
        else:
            return self.view(value, rest)
        sizes = [self._rows_count(), *([self.text.shape(rest)] if rest else [])]
        return self.text.node("Expand", [name, self.text.node("Concat", sizes, axis=0)])

    def _rows_count(self) -> str:
        """The number of rows, [1]."""
        if self._rows_shape is None:
            source = ITEM_PART if ITEM_PART in self.used else self._some_rows_input()
            self._rows_shape = self.text.node("Shape", [source], start=0, end=1)
        return self._rows_shape

    def _some_rows_input(self) -> str:
        names = [name for name, axis in self.read.axes.items() if axis is Axis.ROWS]
        chosen = next((name for name in names if name in self.used), names[0] if names else None)
        if self.form is Form.MANY_USERS and chosen is None:
            chosen = ROW_USER
        if chosen is None:
            raise NotUnderstoodError("nothing says how many rows there are")
        self.used.add(chosen)
        return chosen


def _for_one(tensor: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    kind = tensor.type.tensor_type
    return helper.make_tensor_value_info(tensor.name, kind.elem_type, [1, *(dim.dim_value for dim in kind.shape.dim[1:])])
