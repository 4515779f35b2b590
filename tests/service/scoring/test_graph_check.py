"""Differences between graph and manifest that no real graph of these tests can show."""

from dataclasses import replace

import pytest

from service.scoring.graph_check import graph_differences
from service.scoring.onnx_session import GraphValue
from tests.service.scoring.graphs import HISTORY_LENGTH, publish

INPUTS = (
    GraphValue("user_numbers", "float32", (None, 1)),
    GraphValue("history", "int32", (None, HISTORY_LENGTH)),
    GraphValue("item_categories", "int32", (None, 1)),
    GraphValue("candidate_numbers", "float32", (None, 1)),
    GraphValue("row_user", "int32", (None,)),
)
OUTPUTS = (
    GraphValue("ctr", "float32", (None,)),
    GraphValue("cvr", "float32", (None,)),
    GraphValue("attention", "float32", (None, HISTORY_LENGTH)),
)


@pytest.fixture
def manifest(repository):
    return publish(repository).manifest


@pytest.mark.parametrize("width", [HISTORY_LENGTH, None])
def test_a_graph_may_leave_a_width_open(manifest, width):
    assert graph_differences(manifest, INPUTS, (*OUTPUTS[:2], replace(OUTPUTS[2], shape=(None, width)))) == []


@pytest.mark.parametrize("shape", [(), (None, None), (7,)])
def test_a_score_that_is_no_vector_over_the_rows_is_a_difference(manifest, shape):
    differences = graph_differences(manifest, INPUTS, (replace(OUTPUTS[0], shape=shape), *OUTPUTS[1:]))
    assert len(differences) == 1
    assert differences[0].startswith("output ctr: the manifest says float32 [any], the graph has float32 [")


def test_every_difference_is_listed(manifest):
    differences = graph_differences(manifest, INPUTS[1:], (*OUTPUTS[1:], GraphValue("extra", "float32", (None,))))
    assert differences == [
        "input user_numbers: in the manifest, not in the graph",
        "output ctr: in the manifest, not in the graph",
        "output extra: in the graph, not in the manifest",
    ]
