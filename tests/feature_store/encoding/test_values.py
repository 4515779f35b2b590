"""The one text form of a category and the one reading of a number."""

import math

import pytest

from feature_store.encoding.values import ValueRefusedError, category_text, number_value


@pytest.mark.parametrize(
    ("value", "text"),
    [("a", "a"), ("", ""), ("007", "007"), (7, "7"), (-7, "-7"), (True, "true"), (False, "false"), (1 << 127, str(1 << 127))],
)
def test_a_category_has_one_text(value, text):
    assert category_text(value) == text


@pytest.mark.parametrize("value", [1.0, None, b"a", ["a"], 1 << 128, pytest.param(10**5_000, id="5001 digits")])
def test_what_is_no_category_is_refused(value):
    with pytest.raises(ValueRefusedError):
        category_text(value)


@pytest.mark.parametrize(("value", "number"), [(1, 1.0), (1.5, 1.5), (True, 1.0), (-(10**300), -1e300)])
def test_a_number_is_a_double(value, number):
    assert number_value(value) == number


def test_none_is_a_missing_number():
    assert math.isnan(number_value(None))


@pytest.mark.parametrize("value", ["1", [1], math.inf, -math.inf, 10**400])
def test_what_is_no_number_is_refused(value):
    with pytest.raises(ValueRefusedError):
        number_value(value)
