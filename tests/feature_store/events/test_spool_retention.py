"""What was applied goes when its time is over, the last of it too; numbers and other people's records stay."""

import os

import pytest

from feature_store.errors import SpoolLockedError
from feature_store.events.spool import Spool, SpoolRule
from feature_store.events.spool_state import lock_directory

MANY = 1_000_000
HOUR = SpoolRule(retain_s=3600.0)


class Clocks:
    """A wall clock and a monotonic one, set by hand."""

    def __init__(self):
        self.wall, self.awake = 1_000_000.0, 50.0

    def pass_(self, seconds):
        self.wall += seconds
        self.awake += seconds

    async def open(self, directory, rule=HOUR):
        return await Spool.open(directory, rule, wall_clock=lambda: self.wall, monotonic=lambda: self.awake)


async def test_an_idle_spool_lets_go_of_the_newest_file_and_numbers_go_on(tmp_path):
    clocks = Clocks()
    spool = await clocks.open(tmp_path)
    await spool.append([b"one", b"two"])
    await spool.mark_applied(2)
    clocks.pass_(3599)
    await spool.tidy()
    assert spool.oldest == 1
    clocks.pass_(1)
    await spool.tidy()
    assert (spool.oldest, spool.durable, list(tmp_path.glob("*.seg"))) == (3, 2, [])
    assert await spool.append([b"three"]) == 3
    await spool.mark_applied(3)
    clocks.pass_(3600)
    await spool.tidy()
    await spool.close()
    (tmp_path / "applied").write_bytes(b"torn")
    spool = await clocks.open(tmp_path)
    assert (spool.durable, spool.applied, spool.pending, spool.pending_bytes) == (3, 3, 0, 0)
    assert await spool.append([b"four"]) == 4
    assert await spool.read(0, MANY, MANY) == [(4, b"four")]
    await spool.close()


async def test_what_is_not_applied_stays_however_old(tmp_path):
    clocks = Clocks()
    spool = await clocks.open(tmp_path)
    await spool.append([b"one", b"two"])
    await spool.mark_applied(1)
    clocks.pass_(10**6)
    await spool.tidy()
    assert await spool.read(0, MANY, MANY) == [(1, b"one"), (2, b"two")]
    await spool.close()


async def test_a_wall_clock_that_jumps_takes_nothing_away(tmp_path):
    clocks = Clocks()
    spool = await clocks.open(tmp_path)
    await spool.append([b"one"])
    await spool.mark_applied(1)
    clocks.wall += 10**6
    await spool.tidy()
    assert spool.oldest == 1
    await spool.close()


async def test_a_wall_clock_set_back_between_two_lives_keeps_nothing_for_ever(tmp_path):
    clocks = Clocks()
    spool = await clocks.open(tmp_path)
    await spool.append([b"one"])
    await spool.mark_applied(1)
    await spool.close()
    clocks.wall -= 10**6
    spool = await clocks.open(tmp_path)
    clocks.pass_(3600)
    await spool.tidy()
    assert spool.oldest == 2
    await spool.close()


async def test_a_removed_spool_leaves_nothing_unless_it_holds_something(tmp_path):
    kept, gone, aside = [await Spool.open(tmp_path / name, SpoolRule(retain_s=0.0), store="ab") for name in ("k", "g", "a")]
    for spool in (kept, gone, aside):
        await spool.append([b"one"])
    await gone.mark_applied(1)
    await aside.mark_applied(1)
    await aside.reject(1, b"one", "no event")
    for spool in (kept, gone, aside):
        await spool.tidy()
        await spool.remove()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "k"]
    again = await Spool.open(tmp_path / "k", store="ab")
    assert again.pending == 1
    await again.close()
    assert b'"reason": "no event"' in (tmp_path / "a" / "rejected").read_bytes()


async def test_records_put_aside_are_bounded(tmp_path):
    spool = await Spool.open(tmp_path, SpoolRule(rejected_bytes=1000))
    for number in range(100):
        await spool.reject(number, bytes(50), "no event")
    await spool.close()
    lines = (tmp_path / "rejected").read_bytes().splitlines()
    assert 5 < len(lines) < 12


def test_a_lock_of_a_folder_that_was_removed_meanwhile_is_none(tmp_path, monkeypatch):

    real = os.open

    def open_then_lose(path, *rest):
        descriptor = real(path, *rest)
        path.unlink()
        return descriptor

    monkeypatch.setattr(os, "open", open_then_lose)
    with pytest.raises(SpoolLockedError):
        lock_directory(tmp_path)
