"""Entries of the log: whatever they hold is told, gaps are named by their numbers, and an event counts once."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_store.events.log import LogEntry, first_of_each, read_entry, relogged_users
from tests.feature_store.events.logged import fields_of, logged, reading_of

SOUND = fields_of(logged(7, version=12, entered=True, context={"hour": "7"}, value=2.5, request_id="r", history_version=3))


def test_a_sound_entry_is_read_back_whole():
    entry = read_entry(b"5-1", SOUND)
    assert (entry.id, entry.number, entry.logged.number, entry.logged.version, entry.logged.entered) == ("5-1", 7, 7, 12, True)
    assert entry.logged.event.context == {"hour": "7"}
    assert read_entry(b"5-1", {**SOUND, b"h": b"0"}).logged.entered is False


@pytest.mark.parametrize(
    ("changes", "number"),
    [
        ({b"n": b"x"}, 0),
        ({b"n": b"-7"}, 0),
        ({b"n": "٣".encode()}, 0),
        ({b"n": b"9" * 5_000}, 0),
        ({b"v": b""}, 7),
        ({b"h": b"yes"}, 7),
        ({b"e": b"\xc1"}, 7),
        ({b"e": SOUND[b"e"][:-1]}, 7),
        ({b"e": fields_of(logged(7, time=float("nan")))[b"e"]}, 7),
        ({b"e": fields_of(logged(7, value=float("inf")))[b"e"]}, 7),
        ({b"e": msgspec.msgpack.encode([2, "e", "u", "i", "click", 1.0, 1.0])}, 7),
    ],
)
def test_an_entry_that_cannot_be_read_is_told_and_keeps_its_number_if_it_has_one(changes, number):
    assert read_entry(b"5-1", {**SOUND, **changes}) == LogEntry("5-1", number, None)


@given(st.dictionaries(st.sampled_from([b"n", b"v", b"h", b"e", b"x"]), st.binary(max_size=20)))
def test_no_fields_make_the_reader_fall_over(fields):
    assert read_entry(b"1-1", fields).logged is None


def gaps_of(*numbers, **more):
    return reading_of(*map(logged, numbers), **more).gaps()


def test_numbers_without_a_hole_have_no_gap():
    assert gaps_of(1, 2, 3) == gaps_of(1, 2, ever=2) == gaps_of(5, 6, before=4, ever=5) == gaps_of(before=9, ever=9) == []
    assert gaps_of(1, 2, 3, ever=2) == []  # the third came while the log was read


@pytest.mark.parametrize(
    ("numbers", "more", "gap"),
    [
        ((4, 5), {}, "events 1 to 3 are missing before entry 1-4"),
        ((1, 3), {}, "event 2 is missing before entry 1-3"),
        ((6,), {"before": 4}, "event 5 is missing before entry 1-6"),
        ((8, 1), {"before": 7}, "entry 1-1 is number 1 after number 8: the log began anew"),
        ((8, 8), {"before": 7}, "entry 1-8 is number 8 after number 8: the log began anew"),
        ((), {"ever": 3}, "events 1 to 3 are not in the log"),
        ((), {"before": None}, "the entry to go on from is no longer in the log"),
    ],
)
def test_each_gap_is_named_by_its_numbers(numbers, more, gap):
    (found,) = gaps_of(*numbers, **more)
    assert found.startswith(gap)


def test_an_unreadable_entry_is_a_gap_and_many_gaps_are_counted():
    reading = reading_of(logged(1))
    broken = type(reading)([*reading.entries, LogEntry("1-2", 2, None), LogEntry("1-3", 0, None)], 0, None)
    assert broken.gaps() == ["entry 1-2 cannot be read", "entry 1-3 cannot be read"]
    assert gaps_of(*range(2, 100, 2))[19:] == ["event 39 is missing before entry 1-40", "29 more gaps"]


def test_an_event_logged_again_counts_once_and_another_users_is_another():
    first, again = logged(1, event_id="e", version=5, entered=True), logged(3, event_id="e", version=9)
    other = logged(2, event_id="e", user="02")
    assert first_of_each(reading_of(first, other, again).entries) == [first, other]


def test_a_user_is_relogged_if_an_event_has_two_outcomes():
    first = logged(1, event_id="e", version=5, entered=True)
    same, other, fallen = (logged(2, event_id="e", user=user, version=5, entered=True) for user in ("01", "02", "03"))
    entries = reading_of(first, same, other, fallen, logged(3, event_id="e", user="03", version=4, entered=True)).entries
    assert relogged_users(entries) == {"03"}
