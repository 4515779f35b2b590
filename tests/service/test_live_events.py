"""A process's spools: opened when the disk allows it, taken over, let go of, drained at the end."""

import asyncio
import contextlib
import itertools
import os
import shutil
import threading

import pytest

from feature_store.errors import SpoolFailedError, StoreUnavailableError
from feature_store.events.event import encode_event, new_event
from feature_store.events.ports import Applied, Standing
from feature_store.events.spool import Spool, SpoolRule
from feature_store.events.spool_folder import SpoolFolders
from service.live_events import LiveEvents, LiveTiming

QUICK = LiveTiming(look_s=0.02, tell_s=0.02, open_s=0.2, drain_s=5.0, first_pause_s=0.02, longest_pause_s=0.05)


class Store:
    """Takes every event once and remembers marks."""

    def __init__(self):
        self.resets, self.applied, self.marks, self.closed = 0, [], {}, False
        self.away, self.slow_s = False, 0.0

    async def apply(self, events, mark):
        await asyncio.sleep(self.slow_s)
        self._answer()
        fresh = [event.event_id not in self.applied for event in events]
        self.applied += [event.event_id for event in events if event.event_id not in self.applied]
        self.marks[mark.spool_id] = mark.after
        return [Applied(each, 1) for each in fresh]

    async def applied_through(self, spool_id):
        self._answer()
        return Standing(self.marks.get(spool_id))

    async def close(self):
        self.closed = True

    def _answer(self):
        if self.away:
            raise StoreUnavailableError("refused")


class Told:
    def __init__(self):
        self.open, self.damaged, self.lags, self.applied = [], 0, [], 0

    def events_applied(self, count, lags_s):
        self.applied += count
        self.lags += lags_s

    def spool_opened(self, *, is_open):
        self.open.append(is_open)

    def spool_damaged(self, records):
        self.damaged += records

    def __getattr__(self, name):
        return lambda *_, **__: None


def event(name):
    return new_event(event_id=name, user_id="u", item_id="i", type="click", time=1.0, received_at=0.0)


def folders(root, **rule):
    return SpoolFolders(root, SpoolRule(**rule), "aa")


@contextlib.asynccontextmanager
async def living(spools, store, told=None, times=QUICK):
    live = LiveEvents(spools, store, told or Told(), times)
    await live.start()
    try:
        yield live
    finally:
        await live.close()


async def until(condition, seconds=20):
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - the code under test has no event to tell a test by
            await asyncio.sleep(0.005)


async def test_without_a_usable_disk_events_are_refused_until_there_is_one(tmp_path, caplog):
    root, told = tmp_path / "spool", Told()
    root.write_bytes(b"no folder")
    async with living(folders(root), Store(), told) as live:
        with pytest.raises(SpoolFailedError):
            await live.submit([event("a")], 10)
        await asyncio.sleep(0.2)
        assert sum("cannot be opened" in record.message for record in caplog.records) == 1
        root.unlink()
        await until(lambda: told.open == [False, True])
        assert await live.submit([event("a")], 10) == [Applied(True, 1)]


async def test_a_disk_that_does_not_answer_keeps_the_process_from_neither_starting_nor_ending(tmp_path, monkeypatch):
    go_on, real = threading.Event(), os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (go_on.wait(60), real(descriptor)))
    async with asyncio.timeout(20):
        async with living(folders(tmp_path), Store()) as live:
            with pytest.raises(SpoolFailedError):
                await live.submit([event("a")], 10)
    go_on.set()


async def test_closing_waits_for_a_store_that_answers(tmp_path):
    store = Store()
    store.slow_s = 0.3
    async with living(folders(tmp_path), store) as live:
        assert await live.submit([event("a")], 0) is None
        assert await live.submit([event("b")], 0) is None
    assert store.applied == ["a", "b"]
    assert store.closed


async def test_closing_does_not_wait_for_a_store_that_does_not(tmp_path):
    store = Store()
    store.away = True
    async with asyncio.timeout(20):
        async with living(folders(tmp_path), store, times=LiveTiming(drain_s=1000.0)) as live:
            assert await live.submit([event("a")], 0.2) is None
    store.away = False
    async with living(folders(tmp_path), store):
        await until(lambda: store.applied == ["a"])


async def test_folders_and_tasks_do_not_grow_with_crashes(tmp_path):
    """A dead worker's folder is taken over, drained, and gone when its time is over; the survivor stays as it was."""
    store = Store()
    async with living(folders(tmp_path, retain_s=0.1), store) as live:
        await live.submit([event("own")], 10)
        tasks = len(asyncio.all_tasks())
        for life in range(8):
            dying = await folders(tmp_path).open()
            assert dying.directory.name in ("spool-1", "spool-2")
            await dying.append([encode_event(event(f"left-{life}"))])
            await dying.close()
            await until(lambda: f"left-{life}" in store.applied)  # noqa: B023
            await until(lambda: len(list(tmp_path.iterdir())) == 1)
        await until(lambda: len(asyncio.all_tasks()) <= tasks)
        assert sum(thread.name == "spool" for thread in threading.enumerate()) <= 2
        await live.submit([event("more")], 10)
    assert sorted(store.applied) == sorted(["own", "more", *(f"left-{life}" for life in range(8))])


async def test_another_stores_folder_is_never_applied(tmp_path):
    other = await SpoolFolders(tmp_path, SpoolRule(), "bb").open()
    await other.append([encode_event(event("other"))])
    await other.close()
    store = Store()
    async with living(folders(tmp_path), store) as live:
        await live.submit([event("own")], 10)
        await asyncio.sleep(0.2)
    assert store.applied == ["own"]


async def test_looking_survives_whatever_goes_wrong_and_says_it_once(tmp_path, monkeypatch, caplog):
    spools, store = folders(tmp_path), Store()
    calls = []

    async def fails():
        calls.append(1)
        raise RuntimeError("what")

    with monkeypatch.context() as patch:
        patch.setattr(spools, "adopt", fails)
        async with living(spools, store):
            await until(lambda: len(calls) > 3)
            patch.undo()
            left = await folders(tmp_path).open()
            await left.append([encode_event(event("left"))])
            await left.close()
            await until(lambda: store.applied == ["left"])
    assert sum("looking after" in record.message for record in caplog.records) == 1


async def test_a_repeat_is_applied_and_has_no_lag_and_damage_is_counted(tmp_path):
    spool = await Spool.open(tmp_path / "spool-1", store="aa")
    await spool.append([b"no event"])
    await spool.close()
    told = Told()
    async with living(folders(tmp_path), Store(), told) as live:
        await live.submit([event("a")], 10)
        await live.submit([event("a")], 10)
    assert (told.applied, len(told.lags), told.damaged) == (2, 1, 1)


async def submitted(live, name):
    """Whether an event was kept."""
    try:
        return await live.submit([event(name)], 10) is not None
    except SpoolFailedError:
        return False


async def until_kept(live, prefix):
    async with asyncio.timeout(20):
        for number in itertools.count():
            if await submitted(live, name := f"{prefix}{number}"):
                break
            await asyncio.sleep(0.01)
    return name


@pytest.mark.parametrize("asked", [True, False])
async def test_a_spool_whose_folder_is_deleted_under_it_acknowledges_nothing_and_heals(tmp_path, asked):
    store, told = Store(), Told()
    async with living(folders(tmp_path), store, told) as live:
        assert await submitted(live, "a")
        shutil.rmtree(tmp_path / "spool-1")
        if asked:
            assert not await submitted(live, "lost")
        else:
            await until(lambda: told.open[-1] is False)
        await until(lambda: told.open[-1] is True)
        assert await submitted(live, "b")
        assert told.open == [False, True, False, True]
        assert (tmp_path / "spool-1" / "lock").exists()
    async with living(folders(tmp_path), store):
        pass
    assert store.applied[-1] == "b"


async def test_a_disk_that_refuses_writes_closes_the_spool_which_heals_and_keeps_what_it_had(tmp_path, monkeypatch):
    store, told = Store(), Told()
    async with living(folders(tmp_path), store, told) as live:
        store.away = True
        assert await live.submit([event("kept")], 0) is None
        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", refuses)
            assert not await submitted(live, "x")
            assert told.open[-1] is False
            await until(lambda: live._own is None or live._unusable.is_set())
            assert not await submitted(live, "y")
        store.away = False
        kept = await until_kept(live, "z")
        await until(lambda: told.open[-1] is True)
        await until(lambda: {"kept", kept} <= set(store.applied))


def refuses(_):
    raise OSError(5, "Input/output error")


async def test_an_applier_that_ended_is_started_again(tmp_path, caplog):
    async with living(folders(tmp_path), Store()) as live:
        live._own.task.cancel()
        await until(lambda: any("had ended" in record.message for record in caplog.records))
        assert await submitted(live, "a")


async def test_telling_survives_whatever_it_is_told(tmp_path):
    calls, told = [], Told()

    def fails(**_):
        calls.append(1)
        raise RuntimeError("observer")

    told.spool_depth = fails
    async with living(folders(tmp_path), Store(), told):
        await until(lambda: len(calls) > 2)
