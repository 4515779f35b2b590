"""The pure function that everything else of experiments stands on."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.experiments.bucketing import bucket_of, canonical_unit_id
from service.experiments.errors import DrawInvalidError, ExperimentsError, UnitIdInvalidError

ids = st.text(min_size=1, alphabet=st.characters(exclude_categories=["Cs"])) | st.integers()
salts = st.text(alphabet=st.characters(exclude_categories=["Cs"]))


@given(unit_id=ids, salt=salts, num_buckets=st.integers(1, 10**9))
def test_the_bucket_is_the_published_formula(unit_id, salt, num_buckets):
    text = str(unit_id)
    hashed = f"{salt}:{text}" if salt != "" else text
    expected = int(hashlib.md5(hashed.encode("utf-8")).hexdigest(), 16) % num_buckets
    assert bucket_of(unit_id, salt, num_buckets) == expected


@given(user_id=ids)
def test_an_empty_salt_and_100_buckets_is_the_plain_split_that_teams_run(user_id):
    in_treatment = int(hashlib.md5(str(user_id).encode()).hexdigest(), 16) % 100 < 10
    assert (bucket_of(user_id, "", 100) < 10) == in_treatment


def test_an_integer_and_its_decimal_text_are_one_unit():
    assert [canonical_unit_id(value) for value in (0, -5, 2**63 - 1)] == ["0", "-5", "9223372036854775807"]
    assert bucket_of(-5, "s", 10_000) == bucket_of("-5", "s", 10_000)


def test_ids_are_not_trimmed_folded_or_normalized():
    spellings = ["user", "User", " user", "user ", "us\u00e9r", "use\u0301r"]
    assert [canonical_unit_id(text) for text in spellings] == spellings
    assert len({bucket_of(text, "s", 10**9) for text in spellings}) == len(spellings)


@pytest.mark.parametrize(
    ("unit_id", "words"),
    [
        ("", "empty"),
        (True, "text or an integer, not bool"),
        (None, "not NoneType"),
        (1.0, "not float"),
        (b"42", "not bytes"),
        pytest.param("\ud800", "unit id holds a lone surrogate", id="surrogate"),
        pytest.param("a\udfff", "unit id holds a lone surrogate", id="surrogate at the end"),
        pytest.param(10**5000, "too many digits", id="5,001 digits"),
    ],
)
def test_an_id_that_cannot_be_hashed_is_refused(unit_id, words):
    with pytest.raises(UnitIdInvalidError, match=words):
        bucket_of(unit_id, "salt", 100)


@pytest.mark.parametrize("num_buckets", [0, -1, True, 10.0, "100", None])
def test_a_bucket_count_that_is_no_positive_integer_is_refused(num_buckets):
    with pytest.raises(DrawInvalidError, match="num_buckets must be an integer of at least 1"):
        bucket_of("42", "salt", num_buckets)


def test_a_salt_that_utf8_cannot_write_is_refused_as_the_salt():
    with pytest.raises(DrawInvalidError, match="the salt holds a lone surrogate"):
        bucket_of("42", "\ud800", 100)


def test_one_bucket_holds_everybody():
    assert {bucket_of(unit, "salt", 1) for unit in range(100)} == {0}


def test_every_error_of_experiments_has_one_base():
    assert issubclass(UnitIdInvalidError, ExperimentsError)
    assert issubclass(DrawInvalidError, ExperimentsError)
