"""The control channel: what is no message ends in one error, and no descriptor is ever left open."""

import os
import socket

import pytest

from service.scoring.process import messages
from service.scoring.process.errors import ProtocolError
from tests.service.scoring.process.conftest import open_descriptors


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        theirs.setblocking(False)
        yield ours, theirs


@pytest.mark.parametrize("message", [messages.Load(3, "din", 7), messages.Unload(1)])
def test_messages_arrive_as_they_were_sent(pair, message):
    ours, theirs = pair
    messages.send(ours, message)
    assert messages.receive_at_scorer(theirs) == (message, [])


def test_descriptors_come_with_the_greeting(pair):
    ours, theirs = pair
    reading, writing = os.pipe()
    messages.send(ours, messages.Hello(1, 2), [reading, writing])
    message, received = messages.receive_at_scorer(theirs)
    assert message == messages.Hello(1, 2)
    os.write(received[1], b"x")
    assert os.read(reading, 1) == b"x"
    for each in (reading, writing, *received):
        os.close(each)


GARBAGE = [
    b"\0",
    b"{}",
    b"[]",
    b"null",
    b'{"type":"Load"}',
    b'{"type":"Load","handle":"1","name":"a","version":1}',
    b'{"type":"Load","handle":1,"name":"a","version":1,"more":1}',
    b'{"type":"Welcome","pid":1}',
    b'{"type":"Nothing"}',
    b"\xff" * 1_000,
    b"[" * 60_000,
    b'{"type":"Unload","handle":1}' + b" " * 70_000,
]


@pytest.mark.parametrize("garbage", GARBAGE, ids=lambda garbage: garbage[:20])
def test_garbage_is_one_error_and_its_descriptors_are_closed(pair, garbage):
    ours, theirs = pair
    before = open_descriptors()
    socket.send_fds(ours, [garbage], [0, 0])
    with pytest.raises(ProtocolError):
        messages.receive_at_scorer(theirs)
    assert open_descriptors() == before


def test_more_descriptors_than_asked_for_are_an_error_and_closed(pair):
    ours, theirs = pair
    before = open_descriptors()
    socket.send_fds(ours, [b'{"type":"Unload","handle":1}'], [0] * 20)
    with pytest.raises(ProtocolError, match="cut off"):
        messages.receive_at_scorer(theirs)
    assert open_descriptors() == before


def test_the_end_of_a_connection_is_no_message(pair):
    ours, theirs = pair
    with pytest.raises(BlockingIOError):
        messages.receive_at_scorer(theirs)
    ours.close()
    assert messages.receive_at_scorer(theirs) is None


def test_a_long_refusal_fits_one_message(pair):
    ours, theirs = pair
    messages.send(ours, messages.refused(1, "why " * 50_000))
    assert messages.receive_from_scorer(theirs).reason.startswith("why why")
