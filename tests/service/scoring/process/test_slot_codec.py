"""Requests and answers through a slot: the same on the other side, and nothing outside the slot, whatever its bytes say."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from feature_store.item_table import SharedRows
from service.scoring.batch import ScoringRequest
from service.scoring.process import slot_codec
from service.scoring.process.errors import ProtocolError, SlotTooSmallError
from service.scoring.process.region import Region, RegionShape
from service.scoring.process.slot_codec import AnswerHeader, RequestHeader

NAMES = ("history", "item", "item_part", "level")
NUMBERS = {name: at for at, name in enumerate(NAMES)}
ROOM = 16_384
HEADER = RequestHeader(7, 12.5, 3.25, 9, 4, want_attention=True, arrays=0)

some_arrays = st.dictionaries(
    st.sampled_from([*NAMES, "not read"]),
    arrays_of.arrays(
        st.sampled_from([np.dtype(np.int32), np.dtype(np.float32)]),
        arrays_of.array_shapes(min_dims=1, max_dims=2, min_side=0, max_side=12),
    ),
)


@pytest.fixture(scope="module")
def region():
    region, descriptor = Region.create(RegionShape(slots=3, slot_bytes=ROOM))
    yield region
    import os

    os.close(descriptor)


def filled(region, inputs, header=HEADER):
    slot_codec.write_request(region, 1, header, ScoringRequest(inputs, header.rows), NUMBERS)
    found = slot_codec.read_request_header(region, 1)
    return found, slot_codec.read_request(region, 1, found, NAMES)


@given(some_arrays)
def test_a_request_comes_out_as_it_went_in(region, inputs):
    header, request = filled(region, inputs)
    expected = {name: array for name, array in inputs.items() if name in NAMES}
    assert header == RequestHeader(7, 12.5, 3.25, 9, 4, want_attention=True, arrays=len(expected))
    assert (request.rows, request.want_attention) == (4, True)
    assert request.inputs.keys() == expected.keys()
    for name, array in expected.items():
        assert request.inputs[name].dtype == array.dtype
        np.testing.assert_array_equal(request.inputs[name], array)


def test_rows_that_are_gathered_late_are_gathered_into_the_slot(region):
    table = np.arange(120, dtype=np.float32).reshape(10, 12)
    late = SharedRows(table, np.array([9, 0, 3]))
    _, request = filled(region, {"item_part": late})
    np.testing.assert_array_equal(request.inputs["item_part"], table[[9, 0, 3]])
    with pytest.raises(SlotTooSmallError):
        filled(region, {"item_part": SharedRows(table, np.zeros(ROOM // 48 + 1, np.int64))})


def test_arrays_that_are_not_contiguous_are_written_as_they_look(region):
    table = np.arange(120, dtype=np.float32).reshape(10, 12)
    _, request = filled(region, {"item_part": table[::2, 1:7], "level": table[:, 3]})
    np.testing.assert_array_equal(request.inputs["item_part"], table[::2, 1:7])
    np.testing.assert_array_equal(request.inputs["level"], table[:, 3])


def test_a_request_is_wanted_until_it_is_dropped_and_again_when_the_slot_is_used_again(region):
    filled(region, {})
    assert slot_codec.is_wanted(region, 1)
    slot_codec.drop(region, 1)
    assert not slot_codec.is_wanted(region, 1)
    filled(region, {})
    assert slot_codec.is_wanted(region, 1)


@given(some_arrays)
def test_an_answer_comes_out_as_it_went_in_and_is_a_copy(region, values):
    values = {name: array for name, array in values.items() if name in NAMES}
    answer = AnswerHeader(8, 0.5, 0.25, slot_codec.FAILED, 0, 3, 99)
    slot_codec.write_scores(region, 1, answer, values, NUMBERS)
    found = slot_codec.read_answer_header(region, 1)
    assert found == AnswerHeader(8, 0.5, 0.25, slot_codec.SCORED, len(values), 3, 99)
    read = slot_codec.read_scores(region, 1, found, NAMES)
    start = region.payload_at(1)
    region.memory[start : start + ROOM] = bytes(ROOM)
    assert read.keys() == values.keys()
    for name, array in values.items():
        np.testing.assert_array_equal(read[name], array)


@pytest.mark.parametrize("reason", ["", "no graph", "ü" * 5_000])
def test_a_reason_comes_out_cut_to_a_bearable_length(region, reason):
    slot_codec.write_reason(region, 1, AnswerHeader(1, 0, 0, slot_codec.EXPIRED, 0), reason)
    header = slot_codec.read_answer_header(region, 1)
    assert header.code == slot_codec.EXPIRED
    assert slot_codec.read_reason(region, 1, header) == reason[:1_000]


def test_what_fills_the_slot_fits_and_one_more_row_does_not(region):
    width = 16
    rows = (ROOM - slot_codec.bytes_of(1, 0)) // (4 * width)
    filled(region, {"item_part": np.ones((rows, width), np.float32)})
    with pytest.raises(SlotTooSmallError):
        filled(region, {"item_part": np.ones((rows + 8, width), np.float32)})


@pytest.mark.parametrize("array", [np.zeros(3), np.zeros(3, np.int64), np.zeros((1, 1, 1), np.float32), np.float32(1)])
def test_other_arrays_are_refused(region, array):
    with pytest.raises(SlotTooSmallError, match="int32 and float32 of one or two axes"):
        filled(region, {"level": np.asarray(array)})


def test_neighbouring_slots_are_never_touched(region):
    for slot in (0, 2):
        start = region.headers_at(slot)
        region.memory[start : start + region.shape.stride] = b"\xaa" * region.shape.stride
    filled(region, {"item_part": np.ones((200, 19), np.float32)})
    slot_codec.drop(region, 1)
    slot_codec.write_reason(region, 1, AnswerHeader(1, 0, 0, slot_codec.FAILED, 0), "x" * 9_000)
    for slot in (0, 2):
        start = region.headers_at(slot)
        assert set(region.memory[start : start + region.shape.stride]) == {0xAA}


def test_no_bytes_make_a_reader_look_outside_its_slot(region):
    """Fuzzed descriptions of arrays: refused, or arrays within the slot."""
    choice = random.Random(20260101)
    base = region.payload_at(1)
    start = np.frombuffer(region.memory, np.uint8).__array_interface__["data"][0] + base
    read = 0
    for _ in range(12_000):
        most = choice.choice([40, 40, 40, 400, 6_000, 1 << 32])
        entry = [choice.randrange(6), choice.randrange(3), choice.randrange(4)]
        sizes = [choice.randrange(most) for _ in range(3)]
        slot_codec._ARRAY.pack_into(region.memory, base, *entry, *sizes)
        header = RequestHeader(1, 1, 1, 1, 1, want_attention=False, arrays=choice.choice([1, 1, 1, 5, 1 << 31]))
        try:
            request = slot_codec.read_request(region, 1, header, NAMES)
        except ProtocolError:
            continue
        for array in request.inputs.values():
            read += 1
            address = array.__array_interface__["data"][0]
            assert start <= address
            assert address + array.nbytes <= start + ROOM
    assert read > 100


@settings(max_examples=20)
@given(st.binary(min_size=64, max_size=64))
def test_any_answer_header_is_survived(region, content):
    at = region.headers_at(1) + 64
    region.memory[at : at + 64] = content
    header = slot_codec.read_answer_header(region, 1)
    slot_codec.read_reason(region, 1, header)
    try:
        slot_codec.read_scores(region, 1, header, NAMES)
    except ProtocolError:
        return
