"""A disk that refuses: the appends concerned fail, nothing else does, and the spool works again with the disk."""

import asyncio
import errno
import os
import resource
import shutil
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from feature_store.errors import SpoolFailedError
from feature_store.events import spool_segment
from feature_store.events.spool import Spool, SpoolRule

MANY = 1_000_000


async def payloads(spool):
    return [data for _, data in await spool.read(0, MANY, MANY)]


def failing(code):
    def fails(*_, **__):
        raise OSError(code, os.strerror(code))

    return fails


def half_written_then_full():
    """The first write takes half of the bytes, the next ones none."""
    real, calls = os.write, []

    def write(descriptor, data):
        calls.append(1)
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, bytes(data)[: len(data) // 2])

    return write


FAULTS = {
    "write": (os, "write", lambda: failing(errno.EIO)),
    "full": (os, "write", lambda: failing(errno.ENOSPC)),
    "short": (os, "write", half_written_then_full),
    "nothing written": (os, "write", lambda: lambda *_: 0),
    "sync": (os, "fdatasync", lambda: failing(errno.EIO)),
    "new file": (os, "open", lambda: failing(errno.EMFILE)),
    "new name": (spool_segment, "sync_directory", lambda: failing(errno.EIO)),
    "no memory": (spool_segment, "_encode", lambda: lambda *_, **__: (_ for _ in ()).throw(MemoryError())),
}


# An open file needs no new name: those two faults meet a new file only.
CASES = [(name, new) for name in FAULTS for new in (True, False) if new or name not in ("new file", "new name")]


def unlink_of_nothing_only(path, missing_ok=False):
    if path.exists():
        raise OSError(errno.EIO, "Input/output error")


@contextmanager
def fault(name, *, cutting_works=True):
    where, what, make = FAULTS[name]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(where, what, make())
        if not cutting_works:
            patch.setattr(os, "ftruncate", failing(errno.EIO))
            patch.setattr(Path, "unlink", unlink_of_nothing_only)
        yield


@pytest.mark.parametrize("cutting_works", [True, False], ids=["cut", "not cut"])
@pytest.mark.parametrize(("name", "on_a_new_file"), CASES)
async def test_a_failed_append_is_told_leaves_nothing_and_later_ones_work(tmp_path, name, on_a_new_file, cutting_works):
    spool = await Spool.open(tmp_path, SpoolRule(segment_bytes=1 if on_a_new_file else MANY))
    await spool.append([b"before"])
    with fault(name, cutting_works=cutting_works):
        outcomes = await asyncio.gather(*(spool.append([b"failed" * 9]) for _ in range(3)), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [SpoolFailedError] * 3
        assert (spool.durable, spool.pending) == (1, 1)
        if name != "new file":  # which keeps the reader from its file, too
            assert await payloads(spool) == [b"before"]
    assert await spool.append([b"after", b"the fault"]) == 3
    assert await payloads(spool) == [b"before", b"after", b"the fault"]
    await spool.close()
    spool = await Spool.open(tmp_path)
    assert await spool.read(0, MANY, MANY) == [(1, b"before"), (2, b"after"), (3, b"the fault")]
    assert spool.corrupt_records == 0
    await spool.close()


async def test_a_write_that_the_disk_takes_in_parts_is_whole(tmp_path, monkeypatch):
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, bytes(data)[:7]))
    spool = await Spool.open(tmp_path)
    await spool.append([b"a record of more than seven bytes", b"another"])
    assert await payloads(spool) == [b"a record of more than seven bytes", b"another"]
    await spool.close()


async def test_only_the_group_that_failed_fails(tmp_path, monkeypatch):
    spool = await Spool.open(tmp_path)
    real, calls, under_way, go_on = os.fdatasync, [], threading.Event(), threading.Event()

    def second_fails(descriptor):
        calls.append(1)
        under_way.set()
        go_on.wait(10)
        go_on.clear()
        if len(calls) == 2:
            raise OSError(errno.EIO, "Input/output error")
        real(descriptor)

    monkeypatch.setattr(os, "fdatasync", second_fails)
    groups = []
    for number in range(3):  # each group waits while the one before is being synced
        groups += [asyncio.create_task(spool.append([b"%d" % number])) for _ in range(2)]
        if number:
            go_on.set()
        await asyncio.to_thread(under_way.wait, 10)
        under_way.clear()
    go_on.set()
    outcomes = await asyncio.gather(*groups, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [int, int, SpoolFailedError, SpoolFailedError, int, int]
    assert await spool.read(0, MANY, MANY) == [(1, b"0"), (2, b"0"), (3, b"2"), (4, b"2")]
    await spool.close()


async def test_a_file_size_limit_of_the_process_fails_one_append_and_the_next_starts_a_new_file(tmp_path):
    spool = await Spool.open(tmp_path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    taken = []
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        outcomes = []
        for number in range(30):
            record = bytes([number]) * 500
            try:
                await spool.append([record])
                taken.append(record)
                outcomes.append("taken")
            except SpoolFailedError:
                outcomes.append("failed")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert 0 < outcomes.count("failed") <= 4
    assert await payloads(spool) == taken
    await spool.close()
    spool = await Spool.open(tmp_path)
    assert await payloads(spool) == taken
    assert spool.corrupt_records == 0
    await spool.close()


async def test_a_full_disk_costs_retained_records_before_new_ones(tmp_path, monkeypatch):
    spool = await Spool.open(tmp_path, SpoolRule(segment_bytes=1))
    for number in range(6):
        await spool.append([b"%d" % number])
    await spool.mark_applied(3)
    real = os.write

    def full_while_there_are_six_files(descriptor, data):
        if len(list(tmp_path.glob("*.seg"))) > 6:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", full_while_there_are_six_files)
    assert await spool.append([b"new"]) == 7
    assert spool.oldest == 4
    assert await payloads(spool) == [b"3", b"4", b"5", b"new"]
    await spool.close()


async def test_trouble_with_the_mark_or_with_deleting_loses_nothing(tmp_path, monkeypatch):
    spool = await Spool.open(tmp_path, SpoolRule(segment_bytes=1, retain_s=0.0))
    for number in range(4):
        await spool.append([b"%d" % number])
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", failing(errno.EIO))
        patch.setattr(type(tmp_path), "unlink", failing(errno.EACCES))
        await spool.mark_applied(3)
    assert (spool.applied, spool.pending, spool.pending_bytes) == (3, 1, 17)
    assert await payloads(spool) == [b"0", b"1", b"2", b"3"]
    await spool.close()
    spool = await Spool.open(tmp_path)
    assert spool.applied == 0  # the mark was not written: applied again, which is harmless
    await spool.close()


async def test_a_directory_that_cannot_be_used_is_said_and_not_kept_locked(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SpoolFailedError):
        await Spool.open(tmp_path / "file")
    with monkeypatch.context() as patch:
        patch.setattr("feature_store.events.spool_state.write_whole", failing(errno.ENOSPC))
        with pytest.raises(SpoolFailedError, match="No space left"):
            await Spool.open(tmp_path / "spool")
    spool = await Spool.open(tmp_path / "spool")
    await spool.close()


class Emptied(list):
    """Loses its last element between the look whether there is one and the taking of it, as under another thread."""

    def __len__(self):
        length = super().__len__()
        self.clear()
        return length


async def test_the_oldest_number_can_be_read_while_the_last_file_goes(tmp_path):
    spool = await Spool.open(tmp_path)
    await spool.append([b"x"])
    spool._files._segments = Emptied(spool._files._segments)
    assert spool.oldest in (1, 2)
    await spool.close()


async def test_what_is_written_to_a_deleted_file_is_not_acknowledged(tmp_path):
    spool = await Spool.open(tmp_path / "spool")
    await spool.append([b"x"])
    (segment,) = (tmp_path / "spool").glob("*.seg")
    segment.unlink()
    with pytest.raises(SpoolFailedError):
        await spool.append([b"y"])
    assert not spool.is_gone
    assert await spool.append([b"z"])
    shutil.rmtree(tmp_path / "spool")
    with pytest.raises(SpoolFailedError):
        await spool.append([b"w"])
    assert spool.is_gone
    await spool.close()
