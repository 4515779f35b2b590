"""A disk that stops answering: nobody waits for it for ever, not even the end of the process."""

import asyncio
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from feature_store.errors import SpoolFailedError
from feature_store.events.spool import Spool, SpoolRule

ROOT = Path(__file__).parents[3]
QUICK = SpoolRule(append_timeout_s=0.2, close_timeout_s=0.2)
CHILD = """
import asyncio, os, sys, threading
from pathlib import Path
from feature_store.errors import SpoolFailedError
from feature_store.events.spool import Spool, SpoolRule

async def main():
    spool = await Spool.open(Path(sys.argv[1]), SpoolRule(append_timeout_s=0.1, close_timeout_s=0.1))
    os.fdatasync = lambda _: threading.Event().wait()
    try:
        await spool.append([b"x"])
    except SpoolFailedError as error:
        print(error, flush=True)
    await spool.close()

asyncio.run(main())
"""


@pytest.fixture
def stuck(monkeypatch):
    """Syncs wait for the event."""
    go_on, real = threading.Event(), os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: (go_on.wait(60), real(descriptor)))
    yield go_on
    go_on.set()


async def test_an_append_fails_in_time_and_the_next_ones_at_once_until_the_disk_is_back(tmp_path, stuck):
    spool = await Spool.open(tmp_path, QUICK)
    async with asyncio.timeout(20):
        first, second = asyncio.create_task(spool.append([b"first"])), asyncio.create_task(spool.append([b"second"]))
        await asyncio.sleep(0)
        behind = asyncio.create_task(spool.append([b"behind"]))
        outcomes = await asyncio.gather(first, second, behind, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [SpoolFailedError] * 3
        with pytest.raises(SpoolFailedError, match="does not answer"):
            await spool.append([b"at once"])
        assert spool.durable == 0
        stuck.set()
        await spool.wait(0)
        last = await spool.append([b"after"])
    found = await spool.read(0, 100, 1000)
    assert found[-1] == (last, b"after")
    assert b"at once" not in [data for _, data in found]
    await spool.close()


async def test_what_was_given_up_takes_no_capacity(tmp_path, stuck):
    spool = await Spool.open(tmp_path, SpoolRule(capacity_bytes=2 * 116, append_timeout_s=0.1))
    under_way = asyncio.create_task(spool.append([bytes(100)]))
    await asyncio.sleep(0.02)
    waiting = asyncio.create_task(spool.append([bytes(100)]))
    await asyncio.gather(under_way, waiting, return_exceptions=True)
    stuck.set()
    await spool.wait(0)
    assert await spool.append([bytes(100)]) == 2
    await spool.close()


async def test_closing_does_not_wait_for_the_disk_and_fails_what_is_under_way(tmp_path, stuck, caplog):
    spool = await Spool.open(tmp_path, SpoolRule(close_timeout_s=0.1))
    append = asyncio.create_task(spool.append([b"x"]))
    await asyncio.sleep(0.02)
    async with asyncio.timeout(20):
        await spool.close()
        with pytest.raises(SpoolFailedError):
            await append
    assert any("not closed" in record.message for record in caplog.records)


def test_the_process_ends_though_the_disk_never_answers(tmp_path):
    started = time.monotonic()
    child = subprocess.run([sys.executable, "-c", CHILD, str(tmp_path)], check=False, cwd=ROOT, capture_output=True, timeout=30)
    assert child.returncode == 0, child.stderr
    assert child.stdout == b"the disk does not answer\n"
    assert time.monotonic() - started < 25
