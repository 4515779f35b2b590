"""Both sides of a region in one process, without sockets: what runs, in which order, and which answers are believed."""

import asyncio
import errno
import os
import time
from types import SimpleNamespace

import numpy as np
import pytest

from service.scoring.batch import Scores, ScoringRequest
from service.scoring.errors import DeadlinePassedError, ScoringFailedError
from service.scoring.process import mailbox, messages, region, slot_codec
from service.scoring.process.errors import ProtocolError
from service.scoring.process.guest import Guest, Ticket
from service.scoring.process.mailbox import Addressee, Mailbox
from service.scoring.process.region import RegionShape
from service.scoring.process.runs import Runs, isolated
from service.scoring.process.shelf import OpenedModel, ServedModel
from tests.service.scoring.process.conftest import open_descriptors

NAMES = {"x": 0}


class Sides:
    """A front-end's mailbox, and the scorer's view of it, with models that double ``x``."""

    def __init__(self, batch_rows=100):
        self.mailbox = Mailbox(RegionShape(16, 4_096))
        self.guest = Guest(
            SimpleNamespace(close=lambda: None), messages.Hello(1, 1), list(map(os.dup, self.mailbox.descriptors))
        )
        self.runs = Runs(batch_rows)
        self.ran = []
        self.batches = []

    def model(self, name):
        def run(requests):
            self.ran.append((name, [request.rows for request in requests]))
            if any(np.isnan(request.inputs["x"]).any() for request in requests):
                raise RuntimeError("poison")
            return [Scores({"y": request.inputs["x"] * 2}) for request in requests]

        opened = OpenedModel(run, lambda request: None, ("x",), {"y": 0}, "cpu", "0")
        return ServedModel(name, opened)

    def send(self, value, rows=1, deadline=30.0):
        request = ScoringRequest({"x": np.full(rows, value, np.float32)}, rows)
        now = time.monotonic()
        return self.mailbox.send(self.to, request, now=now, deadline=now + deadline)

    @property
    def to(self):
        return Addressee(1, NAMES, ("y",), lambda *counts: self.batches.append(counts))

    def queue(self, model):
        for slot, header in self.guest.arrivals():
            self.runs.add(model, self.guest.ticket(slot, header, model.opened.inputs))

    def run(self):
        while self.runs:
            self.runs.run_next()
        self.mailbox.collect()


@pytest.fixture
async def sides():
    sides = Sides()
    yield sides
    sides.guest.close()
    sides.mailbox.close()


def scores(letter):
    return letter.answer.result().result.values["y"].tolist()


async def test_requests_that_wait_run_together_and_the_batch_is_counted_once(sides):
    letters = [sides.send(value, rows=value) for value in (1, 2, 3)]
    sides.queue(sides.model("a"))
    sides.run()
    assert sides.ran == [("a", [1, 2, 3])]
    assert [scores(letter) for letter in letters] == [[2.0], [4.0] * 2, [6.0] * 3]
    assert [counts[:2] for counts in sides.batches] == [(3, 6)]


async def test_the_earliest_deadline_runs_first_and_batches_are_bounded_in_rows(sides):
    for value, rows, deadline in ((1, 60, 9), (2, 50, 3), (3, 40, 6), (4, 900, 12)):
        sides.send(value, rows, deadline)
    sides.queue(sides.model("a"))
    sides.run()
    assert sides.ran == [("a", [50, 40]), ("a", [60]), ("a", [900])]


async def test_models_take_turns(sides):
    slow, fast = sides.model("slow"), sides.model("fast")
    for _ in range(3):
        sides.send(1, 90)
    sides.queue(slow)
    sides.send(1, 1)
    sides.queue(fast)
    sides.run()
    assert [name for name, _ in sides.ran] == ["slow", "fast", "slow", "slow"]


async def test_nobody_runs_what_nobody_waits_for(sides):
    expired, left, kept = sides.send(1, deadline=0.001), sides.send(2), sides.send(3)
    sides.mailbox.leave(left)
    await asyncio.sleep(0.002)
    free = sides.mailbox.free
    sides.queue(sides.model("a"))
    sides.run()
    assert sides.ran == [("a", [1])]
    assert scores(kept) == [6.0]
    assert isinstance(expired.answer.exception(), DeadlinePassedError)
    assert sides.mailbox.free == free + 3


async def test_only_the_poisonous_request_fails(sides):
    letters = [sides.send(value) for value in (1, 2, float("nan"), 4, 5)]
    sides.queue(sides.model("a"))
    sides.run()
    error = letters.pop(2).answer.exception()
    assert isinstance(error, ScoringFailedError)
    assert "poison" in str(error)
    assert [scores(letter) for letter in letters] == [[2.0], [4.0], [8.0], [10.0]]


def test_a_run_that_answers_too_little_fails_its_requests_only():
    requests = [ScoringRequest({}, rows) for rows in (1, 2)]
    for outcome in isolated(lambda _: [], requests):
        assert isinstance(outcome, ScoringFailedError)


@pytest.mark.parametrize("wrong", ["sequence", "slot"])
async def test_an_answer_to_another_request_is_never_believed(sides, wrong):
    letter = sides.send(1)
    answer = slot_codec.AnswerHeader(letter.sequence + (wrong == "sequence"), 0, 0, slot_codec.SCORED, 0)
    slot = letter.slot - (wrong == "slot")
    sides.guest.put_scores(slot, answer, Scores({"y": np.ones(1, np.float32)}), {"y": 0})
    sides.guest.ring([slot])
    with pytest.raises(ProtocolError, match="to another request"):
        sides.mailbox.collect()
    assert not letter.answer.done()
    sides.mailbox.leave(letter)


async def test_answers_that_do_not_fit_their_slot_are_a_clear_failure(sides):
    letter = sides.send(1)
    model = sides.model("a")
    wide = OpenedModel(lambda _: [Scores({"y": np.ones(9_999, np.float32)})], model.opened.check, ("x",), {"y": 0}, "cpu", "0")
    sides.queue(ServedModel("wide", wide))
    sides.run()
    assert "does not fit" in str(letter.answer.exception())


async def test_a_front_end_that_died_is_neither_run_nor_answered(sides):
    sides.send(1)
    sides.queue(sides.model("a"))
    sides.guest.close()
    while sides.runs:
        sides.runs.run_next()
    assert sides.ran == []


@pytest.mark.parametrize("wrong", ["sequence", "arrays"])
async def test_who_waits_for_an_answer_that_is_not_believed_fails_with_the_connection(sides, wrong):
    letters = [sides.send(1), sides.send(2)]
    for letter in letters:
        answer = slot_codec.AnswerHeader(letter.sequence + (wrong == "sequence"), 0, 0, slot_codec.SCORED, 0)
        values = {"y": np.ones(1, np.float32)}
        sides.guest.put_scores(letter.slot, answer, Scores(values), {"y": 9 if wrong == "arrays" else 0})
    sides.guest.ring([letter.slot for letter in letters])
    with pytest.raises(ProtocolError):
        sides.mailbox.collect()
    sides.mailbox.fail_all("the connection ended")
    for letter in letters:
        assert letter.answer.done()
        assert "the connection ended" in str(letter.answer.exception())


async def test_a_long_line_of_requests_is_not_compared_with_itself(sides, monkeypatch):
    """Each with each would be the scorer's time: at 4,096 one-row requests, as much as the run itself."""
    compared = []
    monkeypatch.setattr(Ticket, "__eq__", lambda one, other: compared.append(one) or one is other)
    monkeypatch.setattr(Ticket, "__hash__", object.__hash__)
    letters = [sides.send(value) for value in range(16)]
    sides.queue(sides.model("a"))
    sides.run()
    assert [scores(letter) for letter in letters] == [[2.0 * value] for value in range(16)]
    assert len(compared) <= 16


@pytest.mark.parametrize("opened", [0, 1])
async def test_a_mailbox_that_gets_no_descriptor_leaves_none_open(opened, monkeypatch):
    real, made = mailbox.new_eventfd, []

    def new_eventfd():
        if len(made) == opened:
            refuse()
        made.append(real())
        return made[-1]

    monkeypatch.setattr(mailbox, "new_eventfd", new_eventfd)
    before = open_descriptors()
    with pytest.raises(OSError, match="Too many"):
        Mailbox(RegionShape(16, 4_096))
    assert open_descriptors() == before


async def test_a_region_that_cannot_be_mapped_leaves_no_descriptor_open(monkeypatch):
    monkeypatch.setattr(region.mmap, "mmap", lambda *_: refuse())
    before = open_descriptors()
    with pytest.raises(OSError, match="Too many"):
        Mailbox(RegionShape(16, 4_096))
    assert open_descriptors() == before


def refuse():
    raise OSError(errno.EMFILE, "Too many open files")
