"""What the intake promises: durable or refused, counted once, never waiting behind a store that is behind."""

import asyncio

import pytest

from feature_store.errors import SpoolFailedError, SpoolFullError
from feature_store.events.ports import Applied
from service.errors import EventsUnavailableError
from service.ingestion.intake import SLICE
from service.ingestion.received import ReceivedEvent
from tests.service.ingestion.stand_ins import House

NOW = 1_800_000_000.0


def event(index, user="u", event_id=None, kind="click"):
    return ReceivedEvent(index, event_id or f"e{index}", user, "i", kind)


async def test_a_users_newest_version_is_told_once():
    house = House()
    report = await house.intake.take([event(0, "a"), event(1, "b"), event(2, "a")], NOW)
    assert (report.accepted, report.duplicates, report.applied) == (3, 0, True)
    assert list(report.versions.items()) == [("a", 2), ("b", 1)]


async def test_the_newest_version_is_told_even_if_an_older_one_comes_last(monkeypatch):
    house = House()
    outcomes = iter([Applied(True, 5), Applied(False, 3)])
    monkeypatch.setattr(house.applier, "_apply", lambda _: next(outcomes))
    report = await house.intake.take([event(0), event(1)], NOW)
    assert report.versions == {"u": 5}


async def test_an_id_sent_twice_is_kept_once_and_counted_as_a_duplicate():
    house = House()
    report = await house.intake.take([event(0, event_id="x"), event(1, event_id="x"), event(2, "other", "x")], NOW)
    assert (report.accepted, report.duplicates) == (3, 1)
    assert [(each.user_id, each.event_id) for each in house.applier.kept] == [("u", "x"), ("other", "x")]
    again = await house.intake.take([event(0, event_id="x")], NOW)
    assert (again.accepted, again.duplicates, again.versions) == (1, 1, {"u": 1})
    assert house.counted() == {("events", "click", "accepted"): 2, ("events", "click", "duplicate"): 2}


async def test_a_refused_event_does_not_use_up_its_id():
    house = House()
    report = await house.intake.take([event(0, event_id="x", kind="nope"), event(1, event_id="x")], NOW)
    assert (report.accepted, report.duplicates, len(report.refused)) == (1, 0, 1)
    assert house.counted() == {
        ("events", "click", "accepted"): 1,
        ("events", "other", "refused"): 1,
        ("event", "type"): 1,
    }


async def test_what_the_store_has_not_taken_is_kept_without_a_version():
    house = House()
    house.applier.behind = True
    report = await house.intake.take([event(0), event(1, event_id="e0")], NOW)
    assert (report.accepted, report.duplicates, report.applied, report.versions) == (2, None, False, {"u": None})
    assert len(house.applier.kept) == 1
    assert house.counted() == {("events", "click", "accepted"): 1, ("events", "click", "duplicate"): 1}


async def test_nobody_waits_while_the_store_is_far_behind():
    house = House(max_backlog=10)
    for backlog in (0, 10, 11):
        house.applier.backlog = backlog
        await house.intake.take([event(backlog)], NOW)
    assert house.applier.timeouts == [0.25, 0.25, 0.0]


@pytest.mark.parametrize(
    ("error", "reason", "seconds"),
    [(SpoolFullError("full", retry_after_s=7.5), "spool_full", 7.5), (SpoolFailedError("disk"), "spool_failed", 5.0)],
)
async def test_what_cannot_be_kept_is_refused_as_a_whole_and_counted_once_by_reason(error, reason, seconds):
    house = House()
    house.applier.error = error
    with pytest.raises(EventsUnavailableError) as caught:
        await house.intake.take([event(0), event(1, kind="nope")], NOW)
    assert (caught.value.reason, caught.value.retry_after_s) == (reason, seconds)
    assert house.counted() == {("request", reason): 1}


async def test_only_refused_events_reach_no_spool():
    house = House()
    report = await house.intake.take([event(0, kind="nope")], NOW)
    assert (report.accepted, len(report.refused), report.versions) == (0, 1, {})
    assert house.applier.timeouts == []


def test_a_place_is_given_back_whatever_happens():
    house = House(max_requests=1)
    intake = house.intake
    with pytest.raises(KeyError), intake.place():
        raise KeyError
    with intake.place(), pytest.raises(EventsUnavailableError) as caught, intake.place():
        pass
    assert caught.value.reason == "too_many_requests"
    assert house.counted() == {("request", "too_many_requests"): 1}
    with intake.place():
        pass


async def test_others_run_between_slices_of_a_long_batch():
    house = House()
    turns = 0

    async def other():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    await house.intake.take([event(index, kind="nope") for index in range(10 * SLICE)], NOW)
    task.cancel()
    assert turns >= 10
