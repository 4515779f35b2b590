"""Numbered folders: one for each process, and what a dead one left is taken over."""

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

from feature_store.events.spool import SpoolRule
from feature_store.events.spool_folder import SpoolFolders

ROOT = Path(__file__).parents[3]
CHILD = """
import asyncio, sys
from pathlib import Path
from feature_store.events.spool import SpoolRule
from feature_store.events.spool_folder import SpoolFolders

async def main():
    spool = await SpoolFolders(Path(sys.argv[1]), SpoolRule()).open()
    await spool.append([b"left behind"])
    print(spool.directory.name, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_each_opener_gets_a_folder_of_its_own_and_a_free_one_is_used_again(tmp_path):
    root = tmp_path / "spools"
    spools = await asyncio.gather(*(SpoolFolders(root, SpoolRule()).open() for _ in range(5)))
    assert sorted(spool.directory.name for spool in spools) == [f"spool-{number}" for number in range(1, 6)]
    assert len({spool.spool_id for spool in spools}) == 5
    await spools[2].close()
    again = await SpoolFolders(root, SpoolRule()).open()
    assert again.directory == spools[2].directory
    assert again.spool_id == spools[2].spool_id
    for spool in (again, *spools):
        await spool.close()


def child_in(root):
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(root)], cwd=ROOT, stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"spool-1\n"
    return child


async def adopted(root):
    """What the second look takes: at the first one nothing had been seen abandoned before."""
    folders = SpoolFolders(root, SpoolRule())
    assert await folders.adopt() == []
    return await folders.adopt()


async def test_what_a_killed_process_left_is_adopted_by_one_and_nothing_that_is_in_use_or_empty(tmp_path):
    child = child_in(tmp_path)
    own, other, empty = [await SpoolFolders(tmp_path, SpoolRule()).open() for _ in range(3)]
    await other.append([b"in use"])
    await empty.close()
    assert await adopted(tmp_path) == []
    child.send_signal(signal.SIGKILL)
    child.communicate()

    (orphan,) = await adopted(tmp_path)
    assert orphan.directory.name == "spool-1"
    assert await orphan.read(0, 10, 1000) == [(1, b"left behind")]
    assert await adopted(tmp_path) == []
    await orphan.mark_applied(1)
    await orphan.close()
    (drained,) = await adopted(tmp_path)  # the store may still lose what it took from it
    assert drained.pending == 0
    await drained.close()
    await own.close()
    await other.close()


async def test_a_folder_that_cannot_be_opened_is_passed_over(tmp_path):
    (tmp_path / "spool-1").write_bytes(b"no folder")
    (tmp_path / "spool-0").mkdir()
    (tmp_path / "notes").mkdir()
    own = await SpoolFolders(tmp_path, SpoolRule()).open()
    assert own.directory.name == "spool-2"
    assert await adopted(tmp_path) == []
    await own.close()


async def left_by(root, store):
    spool = await SpoolFolders(root, SpoolRule(), store).open()
    await spool.append([store.encode()])
    await spool.close()
    return spool.directory.name


async def test_a_folder_of_another_store_is_neither_opened_nor_adopted_and_told_once(tmp_path, caplog):
    assert [await left_by(tmp_path, "aa"), await left_by(tmp_path, "bb")] == ["spool-1", "spool-2"]
    caplog.clear()
    folders = SpoolFolders(tmp_path, SpoolRule(), "cc")
    own = await folders.open()
    assert own.directory.name == "spool-3"
    for _ in range(3):
        assert await folders.adopt() == []
    told = [record.spool for record in caplog.records if "left alone" in record.message]
    assert sorted(told) == ["spool-1", "spool-2"]
    await own.close()
    again = await SpoolFolders(tmp_path, SpoolRule(), "bb").open()
    assert await again.read(0, 10, 1000) == [(1, b"bb")]
    await again.close()


async def test_a_folder_without_its_note_is_taken_by_the_store_that_asks(tmp_path):
    await left_by(tmp_path, "aa")
    (tmp_path / "spool-1" / "store").unlink()
    own = await SpoolFolders(tmp_path, SpoolRule(), "bb").open()
    assert (own.directory.name, own.pending) == ("spool-1", 1)
    assert (tmp_path / "spool-1" / "store").read_text() == "bb"
    await own.close()


async def test_a_cluster_with_a_seed_in_common_gets_its_folder_and_is_noted_by_its_new_seeds(tmp_path):
    await left_by(tmp_path, "aa,bb")
    for store in ("bb,cc", "cc,dd"):
        own = await SpoolFolders(tmp_path, SpoolRule(), store).open()
        assert (own.directory.name, own.pending) == ("spool-1", 1)
        await own.close()
    own = await SpoolFolders(tmp_path, SpoolRule(), "aa,bb").open()
    assert own.directory.name == "spool-2"
    await own.close()


async def test_what_lies_there_for_other_stores_is_counted(tmp_path):
    for store, count, applied in (("aa", 5, 2), ("bb", 3, 3), ("cc", 4, 0)):
        spool = await SpoolFolders(tmp_path, SpoolRule(segment_bytes=60), store).open()
        for number in range(count):
            await spool.append([b"%d" % number] * 2)
        await spool.mark_applied(2 * applied)
        await spool.close()
    folders = SpoolFolders(tmp_path, SpoolRule(), "cc")
    for _ in range(2):
        for spool in await folders.adopt():
            await spool.close()
        assert (folders.foreign.folders, folders.foreign.records) == (2, 6)
