"""Ids that nobody else gives: not twice, not by a child of the process."""

import os
import re

from service.api.request_ids import RequestIds


def test_ids_are_128_bits_in_hex_each_given_once():
    new_id = RequestIds()
    given = [new_id() for _ in range(1_000)]
    assert len(set(given)) == 1_000
    assert all(re.fullmatch("[0-9a-f]{32}", each) for each in given)


def test_two_sources_share_nothing():
    first, second = RequestIds(), RequestIds()
    assert not {first() for _ in range(200)} & {second() for _ in range(200)}


def test_a_forked_child_gives_none_of_its_parents(monkeypatch):
    new_id = RequestIds()
    new_id()
    kept = set(new_id._left)
    parent = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: parent + 1)  # as it is in the child, whose memory is the parent's
    assert not {new_id() for _ in range(len(kept))} & kept
