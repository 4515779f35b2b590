from __future__ import annotations

import socket

import pytest

from loadtest.errors import ServiceUnreachableError, TargetRefusedError
from loadtest.target import parse_target, probe
from tests.loadtest.ranking_server import RankingServer, serving

BODY = b'{"user_id": 1, "candidates": [2]}'


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000/rank"),
        ("http://127.8.9.1:1/", "http://127.8.9.1:1/rank"),
        ("https://localhost", "https://localhost:443/rank"),
        ("http://LOCALHOST:80/api/", "http://localhost:80/api/rank"),
        ("http://[::1]:8000", "http://[::1]:8000/rank"),
    ],
)
def test_this_machine_may_be_put_under_load(url, expected):
    assert parse_target(url, allow_remote=False).rank_url == expected


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com",
        "http://10.0.0.1:8000",
        "http://0.0.0.0:8000",
        "http://127.0.0.1.example.com",
        "http://localhost.example.com",
        "http://[::ffff:10.0.0.1]:80",
        "http://2130706433",
    ],
)
def test_any_other_host_is_refused_unless_allowed(url):
    with pytest.raises(TargetRefusedError, match="--allow-remote"):
        parse_target(url, allow_remote=False)
    assert parse_target(url, allow_remote=True).host in url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:8000",
        "ftp://127.0.0.1",
        "http://",
        "http://127.0.0.1:x",
        "http://127.0.0.1:99999",
        "http://me:secret@127.0.0.1",
        "http://127.0.0.1?x=1",
        "http://127.0.0.1#@example.com",
        "http://127.0.0.1\\@example.com",
        "http://127.0.0.1\\x.example.com",
        "http://[::1",
    ],
)
def test_what_is_no_plain_url_of_a_service_is_refused(url):
    with pytest.raises(TargetRefusedError):
        parse_target(url, allow_remote=True)


def test_a_port_where_nobody_listens_is_named():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        target = parse_target(f"http://127.0.0.1:{free.getsockname()[1]}", allow_remote=False)
        with pytest.raises(ServiceUnreachableError, match=f"no service answers at {target.rank_url}"):
            probe(target, BODY, 2.0)


def test_a_service_that_refuses_the_payload_is_quoted_before_any_load():
    refusing = RankingServer(respond=lambda _: (422, {"detail": "candidates: unknown field"}))
    with serving(refusing) as server, pytest.raises(ServiceUnreachableError, match=r"status 422: .*unknown field"):
        probe(parse_target(server.url, allow_remote=False), BODY, 2.0)


@pytest.mark.parametrize("status", [200, 429, 500, 503])
def test_a_busy_or_broken_service_may_still_be_measured(status):
    with serving(RankingServer(respond=lambda _: (status, {}))) as server:
        assert probe(parse_target(server.url, allow_remote=False), BODY, 2.0) == {"status": "ready"}
