"""Random networks made from layers, in both styles, at random sizes: both forms say what the plain graph says."""

from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.collapse.collapse import collapse
from models.collapse.parity import check_collapsed
from tests.models.collapse.graphs import Graph, request

pytestmark = pytest.mark.usefixtures("any_gain")


@dataclass(frozen=True)
class Recipe:
    """What a random network is made of."""

    seed: int
    tiled_at_once: bool
    user: int
    item: int
    candidate: int
    size: int
    numbers: bool
    input_norm: bool
    activation: str
    hidden: list[int]
    terms: frozenset[str]
    attention: str
    two_outputs: bool


recipes = st.builds(
    Recipe,
    seed=st.integers(0, 2**16),
    tiled_at_once=st.booleans(),
    user=st.integers(1, 3),
    item=st.integers(1, 3),
    candidate=st.integers(0, 2),
    size=st.integers(1, 4),
    numbers=st.booleans(),
    input_norm=st.booleans(),
    activation=st.sampled_from(["Relu", "Sigmoid", "dice", "Tanh"]),
    hidden=st.lists(st.integers(1, 6), min_size=1, max_size=2),
    terms=st.frozensets(st.sampled_from(["fm", "cross", "dot", "mean", "residual"])),
    attention=st.sampled_from(["", "softmax", "sigmoid"]),
    two_outputs=st.booleans(),
)


class Network(Graph):
    """The graph of a recipe."""

    def __init__(self, recipe):
        super().__init__(recipe.seed)
        self.recipe = recipe
        self.row_user()
        vectors = self.fields()
        total = recipe.user + recipe.item + recipe.candidate
        flat = self.op("Reshape", vectors, self.whole([-1, total * recipe.size]))
        parts, width = [flat], total * recipe.size
        if recipe.numbers:
            parts.append(self.input("item_numbers", "rows", 2))
            width += 2
        if recipe.attention:
            parts += [self.attention()]
            width += recipe.size
        joined = self.op("Concat", *parts, axis=1) if len(parts) > 1 else flat
        if recipe.input_norm:
            joined = self.batch_norm(joined, width)
        logit, deep = self.deep(joined, width)
        for term in sorted(recipe.terms):
            logit = self.op("Add", logit, getattr(self, term)(vectors, joined, width))
        self.probability(self.op("Mul", logit, self.constant(0.3)))
        if recipe.two_outputs:
            self.probability(self.linear(deep, recipe.hidden[-1], 1), "buy")

    def fields(self):
        """[rows, fields, size]: ids tiled and concatenated at once, or vectors tiled late."""
        views = [("user", self.recipe.user), ("item", self.recipe.item), ("candidate", self.recipe.candidate)]
        table, parts = self.normal(9, self.recipe.size), []
        for view, fields in views:
            if not fields:
                continue
            ids = self.input(f"{view}_categories", "users" if view == "user" else "rows", fields, "int32")
            if view == "user" and self.recipe.tiled_at_once:
                ids = self.to_rows(ids)
            if not self.recipe.tiled_at_once:
                ids = self.op("Gather", table, ids, axis=0)
                ids = self.to_rows(ids) if view == "user" else ids
            parts.append(ids)
        joined = self.op("Concat", *parts, axis=1)
        return self.op("Gather", table, joined, axis=0) if self.recipe.tiled_at_once else joined

    def active(self, x, width):
        if self.recipe.activation != "dice":
            return self.op(self.recipe.activation, x)
        gate = self.op("Sigmoid", self.batch_norm(x, width))
        alpha = self.normal(width)
        return self.op("Mul", x, self.op("Add", alpha, self.op("Mul", gate, self.normal(width))))

    def deep(self, x, width):
        for size in self.recipe.hidden:
            x, width = self.active(self.batch_norm(self.linear(x, width, size), size), size), size
        return self.linear(x, width, 1), x

    def fm(self, vectors, joined, width):
        square = self.op("Pow", self.op("ReduceSum", vectors, self.whole([1]), keepdims=0), self.constant(2.0))
        squares = self.op("ReduceSum", self.op("Mul", vectors, vectors), self.whole([1]), keepdims=0)
        return self.op("ReduceSum", self.op("Sub", square, squares), self.whole([1]), keepdims=1)

    def cross(self, vectors, joined, width):
        x = self.op("Add", self.op("Mul", joined, self.linear(joined, width, 1)), joined)
        x = self.op("Add", self.op("Mul", joined, self.linear(x, width, 1)), x)
        return self.linear(x, width, 1)

    def dot(self, vectors, joined, width):
        last = self.op("Slice", vectors, self.whole([1]), self.whole([2]), self.whole([1]))
        first = self.op("Slice", vectors, self.whole([0]), self.whole([1]), self.whole([1]))
        return self.op("ReduceSum", self.op("Mul", first, last), self.whole([2]), keepdims=0)

    def mean(self, vectors, joined, width):
        return self.linear(self.op("ReduceMean", vectors, self.whole([1]), keepdims=0), self.recipe.size, 1)

    def residual(self, vectors, joined, width):
        x = self.linear(joined, width, 3)
        x = self.op("Add", x, self.linear(self.op("Relu", x), 3, 3))
        return self.linear(self.op("Softmax", x, axis=-1), 3, 1)

    def attention(self):
        """[rows, size]: the history weighted by a layer over [c, h, c * h, c - h]."""
        length, size = 4, self.recipe.size
        self.input("history", "users", length, "int32")
        table, history = self.normal(9, size), "history"
        history = self.to_rows(history) if self.recipe.tiled_at_once else history
        h, mask = self.op("Gather", table, history, axis=0), self.op("Greater", history, self.constant(0, "int32"))
        if not self.recipe.tiled_at_once:
            h, mask = self.to_rows(h), self.to_rows(mask)
        c = self.op("Gather", table, self.op("Gather", "item_categories", self.whole(0), axis=1), axis=0)
        c = self.op("Expand", self.op("Unsqueeze", c, self.whole([1])), self.whole([1, length, 1]))
        x = self.op("Concat", c, h, self.op("Mul", c, h), self.op("Sub", c, h), axis=2)
        x = (
            self.active(self.op("Add", self.op("MatMul", x, self.normal(4 * size, 3)), self.normal(3)), 3)
            if self.recipe.activation != "dice"
            else self.op("Relu", self.op("MatMul", x, self.normal(4 * size, 3)))
        )
        scores = self.op("Squeeze", self.op("MatMul", x, self.normal(3, 1)), self.whole([-1]))
        weights = (
            self.op("Softmax", self.op("Where", mask, scores, self.constant(-1e30)), axis=-1)
            if self.recipe.attention == "softmax"
            else self.op("Sigmoid", scores)
        )
        weights = self.op("Mul", weights, self.op("Cast", mask, to=1))
        self.output("attention", weights, length)
        return self.op("Squeeze", self.op("MatMul", self.op("Unsqueeze", weights, self.whole([1])), h), self.whole([1]))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(recipe=recipes, users=st.integers(1, 4), rows=st.integers(1, 9), limit=st.sampled_from([4096, 12, 1]))
def test_forms_say_what_the_plain_graph_says(recipe, users, rows, limit):
    network = Network(recipe)
    model = network.model()
    graphs = collapse(model, network.inputs, max_item_width=limit)
    assert graphs is not None
    assert graphs.item_width <= limit
    check_collapsed(model, graphs, network.inputs, {"request": request(network.inputs, users, rows, recipe.seed)})
