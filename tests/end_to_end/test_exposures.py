"""The exposure log beside a running service: every ranking that a client got is there, and nothing else."""

import http.client
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from service.api.binary_body import ANSWER_HEADER, REQUEST_HEADER, REQUEST_MAGIC, TEXT_CANDIDATES, TEXT_USER, VERSION
from service.api.media import BINARY
from tests.end_to_end.line import call, serving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def post(server, body, headers):
    host, port = server.url.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=30)
    try:
        connection.request("POST", "/rank", body, headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def json_answer(server, body):
    status, content = post(server, json.dumps(body).encode(), {"Content-Type": "application/json"})
    assert status == 200
    return content


def binary_answer(server, user, items, request_id):
    """The rest of a columnar answer, which is JSON, with the ids in their order."""
    texts, options = [item.encode() for item in items], json.dumps({"request_id": request_id}).encode()
    offsets = np.cumsum([0, *map(len, texts)]).astype("<u4").tobytes()
    sizes = (sum(map(len, texts)), len(user), len(options))
    header = REQUEST_HEADER.pack(REQUEST_MAGIC, VERSION, TEXT_USER | TEXT_CANDIDATES, len(texts), *sizes, 0)
    body = b"".join((header, offsets, *texts, user.encode(), options))
    status, content = post(server, body, {"Content-Type": BINARY.decode(), "Accept": BINARY.decode()})
    assert status == 200
    count = ANSWER_HEADER.unpack_from(content)[3]
    order = np.frombuffer(content, "<i4", count, ANSWER_HEADER.size).tolist()
    return [items[place] for place in order]


def exposed(directory):
    lines = [line for path in sorted(directory.glob("*.jsonl")) for line in path.read_bytes().splitlines()]
    return [line[line.index(b'"answer":') + 9 : -1] for line in lines]


def test_every_answer_is_in_the_log_byte_for_byte_and_no_error_is(line, tmp_path):
    log = tmp_path / "log"
    with serving(line, tmp_path, {"RANKLINE_EXPOSURES__DIRECTORY": str(log)}) as server:
        asked = [{"user_id": line.users[each % 80], "candidates": line.items[: 1 + each % 9]} for each in range(120)]
        with ThreadPoolExecutor(8) as clients:
            answers = list(clients.map(lambda body: json_answer(server, body), asked))
        assert call(server, "POST", "/rank", {"user_id": 1})[0] == 422
        columnar = binary_answer(server, line.users[3], line.items[:9], "columnar")
        metrics = call(server, "GET", "/metrics")[1].decode()
        assert "rankline_exposure_waiting_bytes" in metrics
    written = exposed(log)
    documents = [json.loads(each) for each in written]
    [of_columns] = [each for each in documents if each["request_id"] == "columnar"]
    assert [item["id"] for item in of_columns["items"]] == columnar
    assert set(of_columns) == set(json.loads(answers[0]))
    assert sorted(each for each in written if b'"columnar"' not in each) == sorted(answers)
