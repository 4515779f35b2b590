"""One event, one line, whatever a client sent."""

import json
import logging

from hypothesis import given
from hypothesis import strategies as st

from service.logs import JsonLines


@given(st.text(), st.text())
def test_no_text_can_forge_a_line(message, value):
    record = logging.makeLogRecord({"msg": "%s", "args": (message,), "levelname": "INFO", "name": "x", "value": value})
    line = JsonLines().format(record)
    assert len(line.splitlines()) == 1
    assert line.isascii()
    parsed = json.loads(line)
    assert (parsed["event"], parsed["value"]) == (message, value)
