"""Costs of graphs small enough to count by hand."""

from models.collapse.collapse import _pays, collapse
from models.collapse.cost import cost_of, with_row_read
from models.manifest import Cost
from tests.models.collapse.graphs import Graph


def layered():
    """A layer of 5 + 4 to 8 numbers, Relu, and a layer of 8 to 1."""
    graph = Graph()
    graph.input("user_numbers", "users", 5)
    graph.input("item_numbers", "rows", 4)
    graph.row_user()
    joined = graph.op("Concat", graph.to_rows("user_numbers"), "item_numbers", axis=1)
    graph.probability(graph.linear(graph.op("Relu", graph.linear(joined, 9, 8, bias=False)), 8, 1, bias=False))
    return graph


def test_operations_are_counted_by_row():
    cost = cost_of(layered().model())
    # Products, Relu, and four for the sigmoid.
    assert cost.flops_per_row == 2 * 9 * 8 + 8 + 2 * 8 + 4
    assert cost.flops_per_user == 0


def test_bytes_are_counted_once_a_reader_and_weights_once_a_run():
    cost = cost_of(layered().model())
    gather, concat, first, relu, last, rest = 5 * 2 + 1, 9 * 2, 9 + 8, 8 * 2, 8 + 1, 2
    assert cost.bytes_per_row == 4 * (gather + concat + first + relu + last + rest)
    assert cost.bytes_per_user == 4 * (9 * 8 + 8)


def test_a_form_does_the_users_half_once_and_reads_the_items_row(any_gain):
    graph = layered()
    graphs = collapse(graph.model(), graph.inputs)
    assert graphs.collapsed_cost.flops_per_user == 2 * 5 * 8
    assert graphs.collapsed_cost.flops_per_row == 8 + 8 + 2 * 8 + 4
    bare = cost_of(graphs.one_user)
    assert graphs.collapsed_cost == with_row_read(bare, 8)
    assert graphs.collapsed_cost.bytes_per_row == bare.bytes_per_row + 2 * 4 * 8


def test_a_network_that_gains_nothing_keeps_its_graph():
    graph = Graph()
    graph.input("candidate_numbers", "rows", 6)
    graph.probability(graph.linear(graph.op("Relu", graph.linear("candidate_numbers", 6, 8)), 8, 1))
    assert collapse(graph.model(), graph.inputs) is None


def operations(per_row, per_user):
    return Cost(flops_per_row=per_row, bytes_per_row=0, flops_per_user=per_user, bytes_per_user=0)


def test_work_once_per_user_must_pay_for_a_tile_too():
    plain = operations(100, 0)
    assert _pays(operations(50, 2_000), plain)
    assert not _pays(operations(50, 5_000), plain)  # cheaper at 200 rows, dearer at 50
    assert not _pays(plain, plain)
