"""Records: what is written is read, by its owner only, and nothing else is."""

import binascii
import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_store.errors import OwnerMismatchError, RecordCorruptError, RecordError, RecordRefusedError, RecordTooLargeError
from feature_store.records import (
    FEATURE_SCHEMA,
    MAX_FEATURE_BYTES,
    MAX_HISTORY_BYTES,
    SCHEMA,
    decode_features,
    decode_history,
    encode_features,
    encode_history,
    feature_record,
    history_record,
)

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
INTEGERS = st.integers(-(2**63), 2**64 - 1)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.none() | TEXT | INTEGERS | FLOATS | st.booleans() | st.lists(TEXT | INTEGERS, max_size=5)


def checked(fields):
    """Any fields with a right checksum behind them, by the description of the format and not by its code."""
    head = msgspec.msgpack.encode([*fields, 0xFFFFFFFF])[:-4]
    return head + binascii.crc32(head).to_bytes(4, "little")


FEATURES = encode_features(feature_record("u1", 5.0, {"country": "no", "age": 31, "genres": ["a", 2]}, written_at=7.0))
HISTORY = encode_history(history_record("u1", ["a", "b"], [1.0, 2.0], written_at=7.0))


@given(owner=TEXT, moment=FLOATS, values=st.dictionaries(TEXT, VALUES, max_size=6))
def test_features_are_read_as_written(owner, moment, values):
    record = decode_features(encode_features(feature_record(owner, moment, values, written_at=moment)), owner)
    assert (record.owner, record.event_time, record.written_at, record.values) == (owner, moment, moment, values)
    assert [type(value) for value in record.values.values()] == [type(value) for value in values.values()]


@given(owner=TEXT, events=st.lists(st.tuples(FLOATS, TEXT), max_size=20))
def test_histories_are_read_as_written(owner, events):
    times = sorted(moment for moment, _ in events)
    items = [item for _, item in events]
    record = decode_history(encode_history(history_record(owner, items, times, version=99)), owner)
    assert (record.items, record.times, record.version) == (items, times, 99)


def test_features_written_before_there_was_a_checksum_are_still_read():
    record = decode_features(msgspec.msgpack.encode([SCHEMA, "u1", 5.0, 7.0, {"age": 31}]), "u1")
    assert (record.event_time, record.written_at, record.values) == (5.0, 7.0, {"age": 31})


def test_features_have_the_format_that_is_described():
    assert encode_features(feature_record("u1", 5.0, {"age": 31}, written_at=7.0)) == checked(
        [FEATURE_SCHEMA, "u1", 5.0, 7.0, {"age": 31}]
    )
    old = msgspec.structs.replace(feature_record("u1", 5.0, {"age": 31}, written_at=7.0), schema=SCHEMA)
    assert encode_features(old) == checked([FEATURE_SCHEMA, "u1", 5.0, 7.0, {"age": 31}])


def test_no_single_flipped_bit_of_features_is_overlooked_or_taken_for_another_owners():
    for bit in range(8 * len(FEATURES)):
        data = bytearray(FEATURES)
        data[bit // 8] ^= 1 << bit % 8
        with pytest.raises(RecordCorruptError):
            decode_features(bytes(data), "u1")


def test_a_record_is_compact():
    values = {"gender": "F", "age": "25", "occupation": "12", "genres": ["Drama", "War"], "year": 1994.0}
    assert len(encode_features(feature_record("4711", 978300760.0, values))) < 100


@pytest.mark.parametrize("decode", [decode_features, decode_history])
def test_another_owners_record_is_never_returned(decode):
    with pytest.raises(OwnerMismatchError):
        decode(FEATURES if decode is decode_features else HISTORY, "u2")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00",
        b"not msgpack",
        FEATURES[:-1],
        FEATURES + b"\x00",
        HISTORY,
        b"\x90",
        checked([FEATURE_SCHEMA + 1, "u1", 5.0, 7.0, {}]),
        checked([SCHEMA, "u1", 5.0, 7.0, {}]),
        checked([FEATURE_SCHEMA, "u1", math.nan, 7.0, {}]),
        checked([FEATURE_SCHEMA, "u1", 5.0, math.inf, {}]),
        checked([FEATURE_SCHEMA, "u1", 5.0, 7.0, {"age": math.nan}]),
        checked([FEATURE_SCHEMA, "u1", 5.0, 7.0, {"age": math.inf}]),
        checked([FEATURE_SCHEMA, "u1", 5.0, 7.0, {"age": b"31"}]),
        checked([FEATURE_SCHEMA, "u1", 5.0, 7.0, {"age": {}}]),
        checked([FEATURE_SCHEMA, "u1", 5.0, 7.0, {1: 31}]),
        checked([FEATURE_SCHEMA, "u1", 5.0, 7.0, {"genres": [True]}]),
        checked([FEATURE_SCHEMA, "u1", 5.0, 7.0, {"genres": [1.5]}]),
        checked([FEATURE_SCHEMA, 1, 5.0, 7.0, {}]),
        checked([FEATURE_SCHEMA, "u1", 5.0, {}]),
        checked([FEATURE_SCHEMA, "u1", 5.0, 7.0, {}, "more"]),
        msgspec.msgpack.encode([FEATURE_SCHEMA, "u1", 5.0, 7.0, {}]),
        msgspec.msgpack.encode([FEATURE_SCHEMA, "u1", 5.0, 7.0, {}, None]),
        msgspec.msgpack.encode([SCHEMA, "u1", 5.0, 7.0, {}, 0]),
    ],
)
def test_features_that_are_no_sound_record_are_corrupt(data):
    with pytest.raises(RecordCorruptError):
        decode_features(data, "u1")


@pytest.mark.parametrize(
    "fields",
    [
        [SCHEMA, "u1", 2, 2.0, ["a", "b"], [1.0]],
        [SCHEMA, "u1", 2, 2.0, ["a", "b"], [2.0, 1.0]],
        [SCHEMA, "u1", 2, 2.0, ["a", "b"], [1.0, math.nan]],
        [SCHEMA, "u1", 2, math.inf, ["a"], [1.0]],
        [SCHEMA, "u1", 1, 2.0, ["a", "b"], [1.0, 2.0]],
        [SCHEMA, "u1", 2, 2.0, ["a", 7], [1.0, 2.0]],
        [SCHEMA, "u1", 2, 2.0, "ab", [1.0, 2.0]],
        [SCHEMA + 1, "u1", 0, 0.0, [], []],
    ],
)
def test_a_history_that_breaks_its_rules_is_corrupt(fields):
    with pytest.raises(RecordCorruptError):
        decode_history(msgspec.msgpack.encode(fields), "u1")


@given(data=st.binary(max_size=80) | st.tuples(st.integers(0, len(FEATURES) - 1), st.integers(0, 255)))
def test_no_bytes_raise_anything_but_a_record_error(data):
    if isinstance(data, tuple):
        place, byte = data
        data = FEATURES[:place] + bytes([byte]) + FEATURES[place + 1 :]
    for decode in (decode_features, decode_history):
        try:
            record = decode(data, "u1")
        except RecordError:
            continue
        assert record.owner == "u1"


def test_an_oversized_value_is_refused_before_it_is_decoded():
    with pytest.raises(RecordTooLargeError):
        decode_features(b"\xc1" * (MAX_FEATURE_BYTES + 1), "u1")
    with pytest.raises(RecordTooLargeError):
        decode_history(b"\xc1" * (MAX_HISTORY_BYTES + 1), "u1")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (math.nan, "finite"),
        (math.inf, "finite"),
        (b"bytes", "bytes"),
        ({"a": 1}, "dict"),
        ([1.5], "float"),
        ([None], "NoneType"),
        ([True], "bool"),
        (2**64, "ints"),
        ("\ud800", "surrogates"),
        ("x" * MAX_FEATURE_BYTES, "bytes, more than"),
    ],
)
def test_a_value_that_readers_would_refuse_is_not_written(value, reason):
    with pytest.raises(RecordRefusedError, match=reason) as refusal:
        encode_features(feature_record("u1", 5.0, {"field": value}))
    assert "'u1'" in str(refusal.value)


@pytest.mark.parametrize(
    ("items", "times", "reason"),
    [
        (["a"], [], "1 items but 0 times"),
        (["a", "b"], [2.0, 1.0], "times fall"),
        (["a"], [math.nan], "finite"),
        (["x" * MAX_HISTORY_BYTES], [1.0], "more than"),
    ],
)
def test_a_history_that_readers_would_refuse_is_not_written(items, times, reason):
    with pytest.raises(RecordRefusedError, match=reason):
        encode_history(history_record("u1", items, times))


def test_a_features_record_without_a_moment_is_not_written():
    with pytest.raises(RecordRefusedError, match="event_time"):
        encode_features(feature_record("u1", math.nan, {}))
