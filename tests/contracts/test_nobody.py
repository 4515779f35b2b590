"""The user that reads of items name is one that nobody can make: neither by a request or an event nor by a table."""

import pytest
from pydantic import ValidationError

from feature_store.item_reads import NOBODY
from service.api.event_schemas import WireEvent
from service.api.schemas import RankRequest
from tests.feature_store.table_problems_of import problems_of


def test_neither_a_request_nor_an_event_may_name_it():
    for schema, body in (
        (RankRequest, {"candidates": [1]}),
        (WireEvent, {"event_id": "e", "item_id": "i", "type": "click"}),
    ):
        assert schema.model_validate({"user_id": "somebody", **body})
        with pytest.raises(ValidationError, match="user_id"):
            schema.model_validate({"user_id": NOBODY, **body})


def test_no_table_may_hold_it(tmp_path):
    ((file, row, column, reason),) = problems_of(tmp_path, users=f"user_id,age,town\n{NOBODY},3,x\n".encode())
    assert (file, row, column) == ("users.csv", 1, "user_id")
    assert "holds control or invisible characters" in reason
