"""The shared memory: whose size nobody can change, and whose slots are read only once they were announced."""

import os
import resource

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.scoring.process.errors import ProtocolError
from service.scoring.process.region import Doorbell, Region, RegionShape, new_eventfd

SHAPE = RegionShape(slots=4, slot_bytes=4_096)


@pytest.fixture
def region():
    region, descriptor = Region.create(SHAPE)
    yield region, descriptor
    os.close(descriptor)


@pytest.fixture
def ring():
    entries, bell = np.zeros(4, np.uint32), new_eventfd()
    yield entries, bell
    os.close(bell)


def test_both_sides_see_the_same_memory(region):
    ours, descriptor = region
    theirs = Region.attach(descriptor)
    assert theirs.shape == SHAPE
    ours.memory[ours.payload_at(3)] = 7
    ours.answer_ring[3] = 9
    assert (theirs.memory[theirs.payload_at(3)], theirs.answer_ring[3]) == (7, 9)


def test_slots_and_rings_do_not_overlap(region):
    ours, _ = region
    ours.request_ring[:] = ours.answer_ring[:] = 0xFFFF_FFFF
    for slot in range(SHAPE.slots):
        start, end = ours.headers_at(slot), ours.payload_at(slot) + SHAPE.slot_bytes
        assert ours.memory[start:end] == bytes(end - start)
        ours.memory[start:end] = b"\1" * (end - start)
    assert ours.request_ring.tolist() == ours.answer_ring.tolist() == [0xFFFF_FFFF] * 4


def test_no_peer_can_shorten_it_under_the_other(region):
    _, descriptor = region
    for size in (0, SHAPE.size - 1, SHAPE.size + 1):
        with pytest.raises(PermissionError):
            os.ftruncate(descriptor, size)


def test_memory_that_could_be_shortened_is_refused():
    descriptor = os.memfd_create("unsealed", os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, SHAPE.size)
    with pytest.raises(ProtocolError, match="not sealed"):
        Region.attach(descriptor)
    os.close(descriptor)


def test_other_descriptors_and_other_content_are_refused(region, tmp_path):
    ours, descriptor = region
    reading, writing = os.pipe()
    file = os.open(tmp_path / "file", os.O_CREAT | os.O_RDWR)
    for other in (reading, writing, file, new_eventfd()):
        with pytest.raises(ProtocolError):
            Region.attach(other)
        os.close(other)
    for at, what in ((0, b"X"), (8, b"\5"), (8, b"\0"), (16, b"\1"), (22, b"\xff")):
        before = ours.memory[at : at + 1]
        ours.memory[at : at + 1] = what
        with pytest.raises(ProtocolError):
            Region.attach(descriptor)
        ours.memory[at : at + 1] = before
    Region.attach(descriptor)


def test_untouched_slots_cost_no_memory():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    large, descriptor = Region.create(RegionShape(slots=64, slot_bytes=1 << 24))
    large.memory[large.payload_at(3)] = 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10  # KiB, of a GiB
    os.close(descriptor)


@pytest.mark.parametrize(("slots", "slot_bytes"), [(0, 4_096), (65_537, 4_096), (1, 100), (1, 4_097), (65_536, 1 << 30)])
def test_shapes_that_make_no_sense_are_refused(slots, slot_bytes):
    with pytest.raises(ValueError, match=r"must be"):
        RegionShape(slots, slot_bytes)


@given(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=4), max_size=12))
def test_the_reader_gets_what_was_put_in_order(groups):
    entries, bell = np.zeros(4, np.uint32), new_eventfd()
    writer, reader = Doorbell(entries, bell), Doorbell(entries, bell)
    for group in groups:
        writer.put(group)
        assert reader.take() == group
        assert reader.take() == []
    writer.close()


def test_an_entry_that_was_not_announced_is_not_read(ring):
    """What is visible in memory before its system call may be half of a slot."""
    entries, bell = ring
    writer, reader = Doorbell(entries, bell), Doorbell(entries, bell)
    writer.put([2])
    entries[1] = 3
    assert reader.take() == [2]
    writer.put([1])
    assert reader.take() == [1]


def test_several_announcements_are_taken_at_once(ring):
    entries, bell = ring
    writer, reader = Doorbell(entries, bell), Doorbell(entries, bell)
    writer.put([2])
    writer.put([1, 3])
    assert reader.take() == [2, 1, 3]


@pytest.mark.parametrize(("slot", "count"), [(4, 1), (0xFFFF_FFFF, 1), (0, 5), (0, 1 << 62)])
def test_a_writer_that_keeps_no_rule_is_found_out(ring, slot, count):
    entries, bell = ring
    entries[0] = slot
    os.eventfd_write(bell, count)
    with pytest.raises(ProtocolError):
        Doorbell(entries, bell).take()
