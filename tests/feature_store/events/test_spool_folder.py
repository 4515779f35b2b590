"""Numbered folders: one for each process, and what a dead one left is taken over."""

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

from feature_store.events.spool import SpoolRule
from feature_store.events.spool_folder import adopt_orphans, open_spool

ROOT = Path(__file__).parents[3]
CHILD = """
import asyncio, sys
from pathlib import Path
from feature_store.events.spool import SpoolRule
from feature_store.events.spool_folder import open_spool

async def main():
    spool = await open_spool(Path(sys.argv[1]), SpoolRule())
    await spool.append([b"left behind"])
    print(spool.directory.name, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_each_opener_gets_a_folder_of_its_own_and_a_free_one_is_used_again(tmp_path):
    root = tmp_path / "spools"
    spools = await asyncio.gather(*(open_spool(root, SpoolRule()) for _ in range(5)))
    assert sorted(spool.directory.name for spool in spools) == [f"spool-{number}" for number in range(1, 6)]
    assert len({spool.spool_id for spool in spools}) == 5
    await spools[2].close()
    again = await open_spool(root, SpoolRule())
    assert again.directory == spools[2].directory
    assert again.spool_id == spools[2].spool_id
    for spool in (again, *spools):
        await spool.close()


def child_in(root):
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(root)], cwd=ROOT, stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"spool-1\n"
    return child


async def test_what_a_killed_process_left_is_adopted_by_one_and_nothing_that_is_in_use_or_empty(tmp_path):
    child = child_in(tmp_path)
    own, other, empty = [await open_spool(tmp_path, SpoolRule()) for _ in range(3)]
    await other.append([b"in use"])
    await empty.close()
    assert await adopt_orphans(tmp_path, SpoolRule(), own) == []
    child.send_signal(signal.SIGKILL)
    child.communicate()

    (orphan,) = await adopt_orphans(tmp_path, SpoolRule(), own)
    assert orphan.directory.name == "spool-1"
    assert await orphan.read(0, 10, 1000) == [(1, b"left behind")]
    assert await adopt_orphans(tmp_path, SpoolRule(), other) == []
    await orphan.mark_applied(1)
    await orphan.close()
    (drained,) = await adopt_orphans(tmp_path, SpoolRule(), own)  # the store may still lose what it took from it
    assert drained.pending == 0
    await drained.close()
    await own.close()
    await other.close()


async def test_a_folder_that_cannot_be_opened_is_passed_over(tmp_path):
    (tmp_path / "spool-1").write_bytes(b"no folder")
    (tmp_path / "spool-0").mkdir()
    (tmp_path / "notes").mkdir()
    own = await open_spool(tmp_path, SpoolRule())
    assert own.directory.name == "spool-2"
    assert await adopt_orphans(tmp_path, SpoolRule(), own) == []
    await own.close()
