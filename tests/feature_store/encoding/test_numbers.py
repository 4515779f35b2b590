"""Number transforms against plain arithmetic, and at the edges of a double."""

import json
import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_store.encoding.numbers import LARGEST_ENCODED, NumberColumn
from feature_store.encoding.values import ValueRefusedError
from feature_store.views import NumberField

TRANSFORMS = ["none", "standardize", "min_max", "log1p", "log1p_standardize"]
FLOAT32 = np.finfo(np.float32)
plain = st.floats(-1e6, 1e6).map(lambda number: round(number, 3))


def fitted(transform, values, default=None):
    field = NumberField(name="price", kind="number", transform=transform, default=default)
    return NumberColumn.fit(field, np.array(values, dtype=np.float64))


def signed_log(number):
    return math.copysign(math.log1p(abs(number)), number)


def expected(transform, values, number):
    """The declared transform by hand: squash, then shift and scale by the training values."""
    squash = signed_log if "log1p" in transform else float
    squashed = [squash(value) for value in values]
    if "standardize" in transform:
        return (squash(number) - statistics.fmean(squashed)) / (statistics.pstdev(squashed) or 1)
    if transform == "min_max":
        return (squash(number) - min(squashed)) / (max(squashed) - min(squashed) or 1)
    return squash(number)


@given(st.sampled_from(TRANSFORMS), st.lists(plain, min_size=2, max_size=20, unique=True), plain)
def test_a_transform_is_what_it_says(transform, values, number):
    encoded = fitted(transform, values).encode([number])
    assert encoded.dtype == np.float32
    assert encoded[0] == pytest.approx(expected(transform, values, number), rel=1e-4, abs=1e-4)


@given(st.sampled_from(TRANSFORMS), st.lists(plain, min_size=1, max_size=9), st.lists(st.none() | plain))
def test_one_by_one_together_and_as_an_array_give_the_same_bits(transform, values, numbers):
    column = fitted(transform, values)
    together = column.encode(numbers)
    assert [column.encode([number])[0] for number in numbers] == together.tolist()
    as_array = np.array([math.nan if number is None else number for number in numbers], dtype=np.float64)
    assert column.encode(as_array).tobytes() == together.tobytes()


@pytest.mark.parametrize(("default", "stand_in"), [(None, 2.0), (10.0, 10.0)])
def test_a_missing_number_is_the_training_mean_or_the_default(default, stand_in):
    column = fitted("min_max", [1.0, math.nan, 3.0], default)
    assert column.encode([None])[0] == column.encode([stand_in])[0]


def test_missing_numbers_do_not_move_the_fit():
    assert fitted("standardize", [1.0, math.nan, 3.0]).to_json() == fitted("standardize", [1.0, 3.0]).to_json()


@pytest.mark.parametrize("values", [[], [math.nan, math.nan]])
def test_a_field_without_any_value_encodes_to_zero(values):
    assert fitted("standardize", values).encode([None]).tolist() == [0.0]


@pytest.mark.parametrize("transform", ["standardize", "min_max", "log1p_standardize"])
@pytest.mark.parametrize("constant", [0.0, 0.1, 1e9, -3.7])
def test_a_constant_field_is_not_blown_up_by_rounding(transform, constant):
    column = fitted(transform, [constant] * 997)
    assert column.scale == 1.0
    assert abs(column.encode([constant])[0]) < 1e-3


@given(st.sampled_from(TRANSFORMS), st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=9), st.data())
def test_every_finite_number_encodes_to_a_finite_float32(transform, values, data):
    column = fitted(transform, values)
    numbers = data.draw(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=9))
    encoded = column.encode(numbers)
    assert np.isfinite(encoded).all()
    assert np.abs(encoded).max() <= np.float32(LARGEST_ENCODED)
    json.dumps(column.to_json(), allow_nan=False)


@pytest.mark.parametrize("value", ["3", [3], math.inf, 10**400])
def test_what_is_no_number_is_named_by_field_and_place(value):
    with pytest.raises(ValueRefusedError, match="field 'price', value 1: "):
        fitted("none", [1.0]).encode([None, value])


@given(st.sampled_from(TRANSFORMS), st.lists(plain, min_size=1, max_size=9), st.lists(plain))
def test_a_column_survives_json_to_the_last_bit(transform, values, numbers):
    column = fitted(transform, values)
    again = NumberColumn.from_json(json.loads(json.dumps(column.to_json())))
    assert again.encode(numbers).tobytes() == column.encode(numbers).tobytes()
