"""The spool in good weather: order, limits, capacity, waiting, retention; against a plain list through restarts."""

import asyncio
import os
import tempfile
from itertools import takewhile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from feature_store.errors import SpoolFailedError, SpoolFullError
from feature_store.events.spool import Spool, SpoolRule

MANY = 1_000_000
SMALL = SpoolRule(segment_bytes=500, retain_s=0.0, retained_bytes=1_000)


class SpoolAgainstAList(RuleBasedStateMachine):
    """Whatever is appended, read, marked, refused by the disk and opened again: the same as a list."""

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.runner = asyncio.Runner()
        self.records = []
        self.spool = self.open()
        self.spool_id = self.spool.spool_id

    def open(self):
        return self.runner.run(Spool.open(Path(self.folder.name) / "spool", SMALL))

    @rule(groups=st.lists(st.lists(st.binary(max_size=300), max_size=4), min_size=1, max_size=4))
    def append_together(self, groups):
        async def all_of_them():
            return await asyncio.gather(*(self.spool.append(group) for group in groups))

        before = len(self.records)
        lasts = self.runner.run(all_of_them())
        for group, last in zip(groups, lasts, strict=True):
            self.records += group
            assert last == (len(self.records) if group else before)

    @rule(group=st.lists(st.binary(max_size=300), min_size=1, max_size=4))
    def append_onto_a_sick_disk(self, group):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "fdatasync", raiser(OSError(5, "Input/output error")))
            with pytest.raises(SpoolFailedError):
                self.runner.run(self.spool.append(group))

    @precondition(lambda self: self.records)
    @rule(data=st.data())
    def mark(self, data):
        sequence = data.draw(st.integers(0, len(self.records)))
        applied = self.spool.applied
        self.runner.run(self.spool.mark_applied(sequence))
        assert self.spool.applied == max(applied, sequence)

    @rule(after=st.integers(-1, 60), max_records=st.integers(0, 20), max_bytes=st.integers(0, 1000))
    def read(self, after, max_records, max_bytes):
        found = self.runner.run(self.spool.read(after, max_records, max_bytes))
        kept = [(number, data) for number, data in enumerate(self.records, 1) if number > max(after, self.spool.oldest - 1)]
        expected = kept[:max_records] if max_bytes else []
        while len(expected) > 1 and sum(len(data) for _, data in expected) > max_bytes:
            expected.pop()
        # Empty records at the limit may or may not come along.
        assert found == expected[: len(found)]
        assert all(not data for _, data in expected[len(found) :])

    @rule()
    def open_again(self):
        applied = self.spool.applied
        self.runner.run(self.spool.close())
        self.spool = self.open()
        assert self.spool.applied == applied

    @invariant()
    def numbers_agree(self):
        spool = self.spool
        assert spool.durable == len(self.records)
        assert spool.pending == len(self.records) - spool.applied
        assert spool.pending_bytes == sum(16 + len(data) for data in self.records[spool.applied :])
        assert spool.oldest <= spool.applied + 1
        assert spool.corrupt_records == 0
        assert spool.spool_id == self.spool_id

    def teardown(self):
        self.runner.run(self.spool.close())
        self.runner.close()
        self.folder.cleanup()


TestSpoolAgainstAList = SpoolAgainstAList.TestCase
TestSpoolAgainstAList.settings = settings(max_examples=40, stateful_step_count=25)


def raiser(error):
    def fails(*_):
        raise error

    return fails


async def payloads(spool, after=0):
    return [data for _, data in await spool.read(after, MANY, MANY)]


async def test_records_longer_than_a_window_and_many_pieces_are_read_whole(tmp_path):
    spool = await Spool.open(tmp_path, SpoolRule(segment_bytes=3_000_000))
    records = [bytes([number]) * size for number, size in enumerate([1024 * 1024, 5, 300_000, 0, 1024 * 1024, 262_128, 7])]
    for record in records:
        await spool.append([record])
    assert await payloads_of_any_size(spool) == records
    assert await spool.read(0, MANY, 10) == [(1, records[0])]  # one that is too long comes alone
    assert await spool.read(1, MANY, 400_000) == [(2, records[1]), (3, records[2]), (4, records[3])]
    await spool.close()


async def payloads_of_any_size(spool):
    return [data for _, data in await spool.read(0, MANY, 100 * MANY)]


async def test_a_record_above_one_mebibyte_is_refused_and_nothing_of_its_append_is_taken(tmp_path):
    spool = await Spool.open(tmp_path)
    with pytest.raises(ValueError, match="longer than"):
        await spool.append([b"good", b"x" * (1024 * 1024 + 1)])
    assert await spool.append([b"next"]) == 1
    await spool.close()


async def test_appends_that_arrive_together_share_syncs(tmp_path, monkeypatch):
    syncs = []
    real = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: (syncs.append(1), real(descriptor)))
    spool = await Spool.open(tmp_path)
    numbers = await asyncio.gather(*(spool.append([b"%d" % number]) for number in range(200)))
    assert numbers == list(range(1, 201))
    assert len(syncs) <= 2
    await spool.close()


async def test_no_append_returns_before_its_bytes_are_synced(tmp_path, monkeypatch):
    written, synced, real_write, real_sync = [0], [0], os.write, os.fdatasync
    monkeypatch.setattr(os, "write", lambda to, data: (n := real_write(to, data), written.__setitem__(0, written[0] + n))[0])
    monkeypatch.setattr(os, "fdatasync", lambda to: (real_sync(to), synced.__setitem__(0, written[0]))[0])
    spool = await Spool.open(tmp_path, SMALL)

    async def client(number):
        for _ in range(10):
            await spool.append([bytes(100)])
            done[0] += 116
            assert synced[0] >= done[0], "acknowledged more than was synced"

    done = [0]
    await asyncio.gather(*(client(number) for number in range(5)))
    assert done[0] == 50 * 116
    await spool.close()


async def test_a_full_spool_refuses_and_takes_again_once_records_are_applied(tmp_path):
    spool = await Spool.open(tmp_path, SpoolRule(capacity_bytes=3 * 116))
    await spool.append([bytes(100), bytes(100)])
    outcomes = await asyncio.gather(*(spool.append([bytes(100)]) for _ in range(3)), return_exceptions=True)
    assert outcomes[0] == 3
    assert all(isinstance(outcome, SpoolFullError) and outcome.retry_after_s > 0 for outcome in outcomes[1:])
    await spool.mark_applied(1)
    with pytest.raises(SpoolFullError):
        await spool.append([bytes(100), bytes(100)])  # room for one: none is taken
    assert await spool.append([bytes(100)]) == 4
    await spool.close()
    again = await Spool.open(tmp_path, SpoolRule(capacity_bytes=3 * 116))
    with pytest.raises(SpoolFullError):
        await again.append([b""])
    await again.close()


async def test_failed_appends_take_no_capacity(tmp_path, monkeypatch):
    spool = await Spool.open(tmp_path, SpoolRule(capacity_bytes=116))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", raiser(OSError(5, "Input/output error")))
        for _ in range(3):
            with pytest.raises(SpoolFailedError):
                await spool.append([bytes(100)])
    assert await spool.append([bytes(100)]) == 1
    await spool.close()


@pytest.mark.parametrize("steps", range(5))
async def test_a_cancelled_caller_changes_nothing_for_others(tmp_path, steps):
    spool = await Spool.open(tmp_path)
    leaving = asyncio.create_task(spool.append([b"leaving"]))
    staying = asyncio.create_task(spool.append([b"staying"]))
    for _ in range(steps):
        await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    number = await staying
    assert (number, b"staying") in await spool.read(0, MANY, MANY)
    assert await spool.append([b"later"]) == number + 1
    await spool.close()


async def test_wait_ends_with_the_next_record_and_at_once_when_there_is_one(tmp_path):
    spool = await Spool.open(tmp_path)
    waiting = asyncio.create_task(spool.wait(0))
    further = asyncio.create_task(spool.wait(1))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    await spool.append([b"one"])
    await waiting
    await spool.wait(0)
    await asyncio.sleep(0.01)
    assert not further.done()
    await spool.close()
    with pytest.raises(SpoolFailedError, match="closed"):
        await further


async def test_close_finishes_the_appends_under_way_then_refuses_everything(tmp_path):
    spool = await Spool.open(tmp_path)
    appends = [asyncio.create_task(spool.append([b"%d" % number])) for number in range(20)]
    await asyncio.sleep(0)
    await asyncio.gather(spool.close(), spool.close())
    assert [await append for append in appends] == list(range(1, 21))
    for call in (spool.append([b"x"]), spool.wait(0), spool.read(0, 1, 1), spool.mark_applied(1)):
        with pytest.raises(SpoolFailedError, match="closed"):
            await call
    again = await Spool.open(tmp_path)
    assert again.durable == 20
    await again.close()


async def test_marking_what_is_not_durable_is_a_mistake(tmp_path):
    spool = await Spool.open(tmp_path)
    await spool.append([b"one"])
    with pytest.raises(ValueError, match="only 1"):
        await spool.mark_applied(2)
    await spool.close()


async def spool_of_ten_files(directory, clock, **limits):
    spool = await Spool.open(directory, SpoolRule(segment_bytes=100, **limits), wall_clock=clock, monotonic=clock)
    for number in range(1, 11):
        await spool.append([bytes([number]) * 100])
    return spool


async def test_applied_records_stay_for_their_time_counted_from_being_applied_and_over_restarts(tmp_path):
    now = [1_000_000.0]
    spool = await spool_of_ten_files(tmp_path, lambda: now[0], retain_s=60.0)
    now[0] += 1_000  # waiting long to be applied takes nothing from the time after
    await spool.mark_applied(4)
    now[0] += 59
    await spool.mark_applied(5)
    assert spool.oldest == 1
    await spool.close()
    awake = [7.0]  # another process, another origin of its clock
    spool = await Spool.open(
        tmp_path, SpoolRule(segment_bytes=100, retain_s=60.0), wall_clock=lambda: now[0], monotonic=lambda: awake[0]
    )
    awake[0] += 1
    await spool.mark_applied(6)
    assert spool.oldest == 5
    assert await payloads(spool) == [bytes([number]) * 100 for number in range(5, 11)]
    await spool.close()


async def test_applied_records_beyond_the_bytes_kept_go_oldest_first_and_unapplied_ones_never(tmp_path):
    spool = await spool_of_ten_files(tmp_path, lambda: 0.0, retained_bytes=3 * 132)
    await spool.mark_applied(2)
    assert spool.oldest == 1
    await spool.mark_applied(7)
    assert spool.oldest == 5
    assert len(list(tmp_path.glob("*.seg"))) == 6
    await spool.close()


async def test_numbers_go_on_though_everything_was_applied_and_deleted_and_the_mark_is_lost(tmp_path):
    spool = await spool_of_ten_files(tmp_path, lambda: 0.0, retain_s=0.0, retained_bytes=0)
    await spool.mark_applied(10)
    assert spool.oldest == 10  # the newest file stays: its name keeps the numbers from starting again
    await spool.close()
    (tmp_path / "applied").write_bytes(b"torn")
    again = await Spool.open(tmp_path)
    assert again.applied == 9
    assert await again.append([b"next"]) == 11
    await again.close()


async def test_reading_in_small_pieces_while_writing_misses_nothing(tmp_path):
    spool = await Spool.open(tmp_path, SpoolRule(segment_bytes=2_000))
    seen = []

    async def follow():
        while len(seen) < 300:
            await spool.wait(len(seen))
            seen.extend(await spool.read(len(seen), 7, MANY))

    async def write(number):
        for _ in range(60):
            await spool.append([bytes([number]) * 50])

    await asyncio.gather(follow(), *(write(number) for number in range(5)))
    assert [number for number, _ in seen] == list(range(1, 301))
    assert all(sum(data == bytes([number]) * 50 for _, data in seen) == 60 for number in range(5))
    await spool.close()


async def test_rolled_files_are_named_by_their_first_record(tmp_path):
    spool = await spool_of_ten_files(tmp_path, lambda: 0.0)
    names = sorted(path.name for path in tmp_path.glob("*.seg"))
    assert names == [f"{number:020d}.seg" for number in range(1, 11)]
    assert list(takewhile(lambda name: name < names[5], names)) == names[:5]
    await spool.close()
