"""Which times an event may have, and what becomes of each; exact to the microsecond."""

from datetime import UTC, datetime, timedelta, timezone
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service.ingestion.event_time import TimeRefusedError, TimeRule

SECOND = 1_000_000
NOW = 1_800_000_000 * SECOND
RULE = TimeRule(future_tolerance_s=60.0, max_age_s=3_600.0)
ANY_AGE = TimeRule(future_tolerance_s=60.0, max_age_s=None)


def seconds(microseconds):
    return microseconds / SECOND


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        (None, NOW),
        (seconds(NOW), NOW),
        (1_799_999_999, NOW - SECOND),
        (1_799_999_999.123456, NOW - SECOND + 123_456),
        (seconds(NOW) + 1, NOW),
        (seconds(NOW) + 60, NOW),
        (1_800_000_060, NOW),
        (1_799_996_400, NOW - 3_600 * SECOND),
        ("2027-01-15T08:00:00Z", NOW),
        ("2027-01-15t08:00:00z", NOW),
        ("2027-01-15 08:00:00Z", NOW),
        ("2027-01-15T10:00:00+02:00", NOW),
        ("2027-01-15T02:29:59-05:30", NOW - SECOND),
        ("2027-01-15T07:59:59.5Z", NOW - SECOND // 2),
        ("2027-01-15T07:59:59.123456789Z", NOW - SECOND + 123_456),
        ("2027-01-15T08:01:00Z", NOW),
    ],
)
def test_a_time_within_the_rule_is_taken(time, expected):
    assert RULE.microseconds(time, NOW) == expected


@pytest.mark.parametrize(
    ("time", "reason"),
    [
        (1_800_000_061, "future"),
        (seconds(NOW) + 60.001, "future"),
        ("2027-01-15T08:01:00.000001Z", "future"),
        (1_800_000_000_000, "future"),
        (1e308, "future"),
        (10**4_000, "future"),
        (1_799_996_399, "ancient"),
        (seconds(NOW) - 3_600.001, "ancient"),
        (0, "ancient"),
        (-1, "ancient"),
        (-1e308, "ancient"),
        (-(10**4_000), "ancient"),
        ("0001-01-01T00:00:00+14:00", "ancient"),
        ("9999-12-31T23:59:59-12:00", "future"),
        ("2027-01-15T08:00:00", "time"),
        ("2027-01-15", "time"),
        ("20270115T080000Z", "time"),
        ("2027-W02-5T08:00:00Z", "time"),
        ("2027-01-15T08:00Z", "time"),
        ("2027-02-30T08:00:00Z", "time"),
        ("2027-01-15T24:00:00Z", "time"),
        ("2027-01-15T08:00:60Z", "time"),
        ("2027-01-15T08:00:00+24:00", "time"),
        ("2027-01-15T08:00:00 Z", "time"),
        ("2027-01-15T08:00:00Z\n", "time"),
        ("٢٠٢٧-01-15T08:00:00Z", "time"),
        ("1800000000", "time"),
        ("", "time"),
    ],
)
def test_a_time_outside_the_rule_is_refused_with_the_reason(time, reason):
    with pytest.raises(TimeRefusedError) as caught:
        RULE.microseconds(time, NOW)
    assert caught.value.reason == reason


def test_without_a_limit_of_age_only_times_before_1970_are_refused():
    assert ANY_AGE.microseconds(0, NOW) == 0
    assert ANY_AGE.microseconds("1970-01-01T00:00:00Z", NOW) == 0
    for time in (-0.001, "1969-12-31T23:59:59Z"):
        with pytest.raises(TimeRefusedError, match="1970"):
            ANY_AGE.microseconds(time, NOW)


@given(st.integers(0, NOW))
@example(NOW - 1)
def test_a_number_and_a_text_of_the_same_moment_are_the_same(moment):
    text = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=moment)).isoformat()
    assert ANY_AGE.microseconds(text, NOW) == moment
    assert ANY_AGE.microseconds(float(Fraction(moment, SECOND)), NOW) == moment


@given(st.integers(0, NOW), st.integers(-1_439, 1_439))
def test_the_offset_moves_no_moment(moment, minutes):
    zone = timezone(timedelta(minutes=minutes))
    text = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=moment)).astimezone(zone).isoformat()
    assert ANY_AGE.microseconds(text, NOW) == moment


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers() | st.text(max_size=40))
def test_any_time_is_taken_within_the_bounds_or_refused(time):
    try:
        taken = RULE.microseconds(time, NOW)
    except TimeRefusedError:
        return
    assert NOW - 3_600 * SECOND <= taken <= NOW
