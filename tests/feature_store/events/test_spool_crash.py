"""What is left after a crash or on a bad disk: torn ends, flipped bits, kills, locks."""

import asyncio
import logging
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from feature_store.errors import SpoolFailedError, SpoolLockedError
from feature_store.events.spool import Spool, SpoolRule
from feature_store.events.spool_segment import _encode

MANY = 1_000_000
RECORDS = [b"first", b"", b"the third record", b"\x00" * 20, b"the last one"]
SIZES = [16 + len(record) for record in RECORDS]
LAST_STARTS = 16 + sum(SIZES[:-1])
TOTAL = 16 + sum(SIZES)
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A directory with one file of five records."""
    directory = tmp_path_factory.mktemp("written") / "spool"

    async def write():
        spool = await Spool.open(directory)
        await spool.append(RECORDS)
        await spool.close()

    asyncio.run(write())
    assert len(segment_of(directory).read_bytes()) == TOTAL
    return directory


@pytest.fixture
def directory(written, tmp_path):
    return shutil.copytree(written, tmp_path / "spool")


def segment_of(directory, first=1):
    return directory / f"{first:020d}.seg"


async def payloads(spool):
    return [data for _, data in await spool.read(0, MANY, MANY)]


@pytest.mark.parametrize("length", range(LAST_STARTS, TOTAL))
async def test_an_end_torn_at_any_byte_loses_the_unfinished_record_only(directory, length):
    segment = segment_of(directory)
    segment.write_bytes(segment.read_bytes()[:length])
    spool = await Spool.open(directory)
    assert await payloads(spool) == RECORDS[:-1]
    assert (spool.durable, spool.corrupt_records) == (4, 0)
    assert segment.stat().st_size == LAST_STARTS
    assert await spool.append([b"again"]) == 5
    assert await payloads(spool) == [*RECORDS[:-1], b"again"]
    await spool.close()


@pytest.mark.parametrize("length", range(16 + SIZES[0]))
async def test_a_first_write_torn_at_any_byte_leaves_an_empty_spool(directory, length):
    segment = segment_of(directory)
    segment.write_bytes(segment.read_bytes()[:length])
    spool = await Spool.open(directory)
    assert (spool.durable, spool.oldest, spool.corrupt_records) == (0, 1, 0)
    assert await spool.append([b"again"]) == 1
    assert await payloads(spool) == [b"again"]
    await spool.close()


@pytest.mark.parametrize("garbage", [b"\x00" * 5000, b"\xff" * 5000, random.Random(1).randbytes(5000)])
async def test_garbage_behind_the_last_record_is_cut_off(directory, garbage):
    segment = segment_of(directory)
    segment.write_bytes(segment.read_bytes() + garbage)
    spool = await Spool.open(directory)
    assert await payloads(spool) == RECORDS
    assert (spool.durable, spool.corrupt_records) == (5, 0)
    assert segment.stat().st_size == TOTAL
    await spool.close()


def record_at(offset):
    """Index of the record that the byte belongs to."""
    end = 16
    for index, size in enumerate(SIZES):
        end += size
        if offset < end:
            return index
    raise AssertionError


@pytest.mark.parametrize("offset", range(16, TOTAL))
async def test_a_flipped_bit_loses_its_record_and_no_other(directory, offset, caplog):
    spool = await Spool.open(directory)
    await spool.append([b"behind"])  # in a file of its own: the damaged one is not the last
    await spool.close()
    segment = segment_of(directory)
    data = bytearray(segment.read_bytes())
    data[offset] ^= 1 << (offset % 8)
    segment.write_bytes(data)
    lost = record_at(offset)
    spool = await Spool.open(directory)
    left = [(number, data) for number, data in enumerate([*RECORDS, b"behind"], 1) if number != lost + 1]
    assert await spool.read(0, MANY, MANY) == left
    assert (spool.durable, spool.corrupt_records) == (6, 1)
    assert caplog.records[0].levelno == logging.ERROR
    await spool.mark_applied(6)
    assert (spool.pending, spool.pending_bytes) == (0, 0)
    await spool.close()


async def test_a_file_with_a_damaged_head_is_skipped_counted_and_kept_aside(directory):
    spool = await Spool.open(directory)
    assert await spool.append([b"behind"]) == 6
    await spool.close()
    segment = segment_of(directory)
    segment.write_bytes(b"X" + segment.read_bytes()[1:])
    spool = await Spool.open(directory)
    assert await spool.read(0, MANY, MANY) == [(6, b"behind")]
    assert spool.corrupt_records == 5
    assert segment.with_suffix(".unreadable").exists()
    await spool.close()


async def test_numbers_never_fall_behind_the_mark_though_the_end_was_lost(directory):
    spool = await Spool.open(directory)
    await spool.mark_applied(5)
    await spool.close()
    segment = segment_of(directory)
    segment.write_bytes(segment.read_bytes()[:LAST_STARTS])
    spool = await Spool.open(directory)
    assert (spool.durable, spool.applied, spool.corrupt_records) == (5, 5, 1)
    assert await spool.append([b"new"]) == 6  # as number 5 it would count as applied
    assert await spool.read(5, MANY, MANY) == [(6, b"new")]
    await spool.close()


async def test_a_payload_that_imitates_records_is_never_taken_for_one(tmp_path):
    spool = await Spool.open(tmp_path)
    await spool.append([b"first"])
    await spool.close()
    salt = int.from_bytes(segment_of(tmp_path).read_bytes()[8:12], "little")  # somebody knows that of another file
    spool = await Spool.open(tmp_path)
    await spool.append([_encode([b"forged"] * 9, first=3, salt=salt)])
    await spool.close()
    segment = segment_of(tmp_path, 2)
    segment.write_bytes(segment.read_bytes()[:-1])  # the search for the next sound record goes through the payload
    spool = await Spool.open(tmp_path)
    assert await spool.read(0, MANY, MANY) == [(1, b"first")]
    await spool.close()


async def test_a_damaged_id_is_made_anew_and_a_damaged_mark_means_nothing_is_applied(directory):
    spool = await Spool.open(directory)
    await spool.mark_applied(3)
    spool_id = spool.spool_id
    await spool.close()
    (directory / "id").write_bytes(b"\xff\x00")
    mark = directory / "applied"
    mark.write_bytes(bytes([mark.read_bytes()[0] ^ 4]) + mark.read_bytes()[1:])
    spool = await Spool.open(directory)
    assert spool.spool_id != spool_id
    assert (spool.applied, spool.pending) == (0, 5)
    await spool.close()


async def test_records_damaged_while_running_are_an_error_and_later_ones_are_read(directory):
    spool = await Spool.open(directory)
    await spool.append([b"six"])
    segment = segment_of(directory, 6)
    segment.write_bytes(segment.read_bytes()[:-1] + b"?")
    with pytest.raises(SpoolFailedError, match="cannot be read"):
        await spool.read(5, MANY, MANY)
    assert await payloads(spool) == RECORDS
    await spool.append([b"seven"])
    assert await spool.read(5, MANY, MANY) == [(7, b"seven")]
    await spool.close()


async def test_a_file_deleted_while_running_is_told_and_later_records_go_to_a_new_one(directory):
    spool = await Spool.open(directory)
    await spool.append([b"six"])
    segment_of(directory, 6).unlink()
    with pytest.raises(SpoolFailedError, match="cannot be read"):
        await spool.read(5, MANY, MANY)
    await spool.append([b"seven"])
    assert await payloads(spool) == [*RECORDS, b"seven"]
    await spool.mark_applied(7)
    assert (spool.pending, spool.pending_bytes) == (0, 0)
    await spool.close()


CHILD = """
import asyncio, os, sys
from pathlib import Path
from feature_store.events.spool import Spool, SpoolRule

async def main():
    spool = await Spool.open(Path(sys.argv[1]), SpoolRule(segment_bytes=20_000))
    print("open", flush=True)

    async def client(name):
        for turn in range(100_000):
            text = f"{os.getpid()} {name} {turn} " + "x" * (turn % 300)
            number = await spool.append([b"before", text.encode()])
            os.write(1, f"{number} {text}\\n".encode())
            if name == 0 and turn % 20 == 0:
                await spool.mark_applied(number - number // 3)

    await asyncio.gather(*(client(name) for name in range(4)))

asyncio.run(main())
"""


def child_on(directory, **options):
    command = [sys.executable, "-c", CHILD, str(directory)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, **options)


async def test_every_acknowledged_record_is_readable_after_kills(tmp_path):
    dice, acknowledged = random.Random(7), {}
    for _ in range(10):
        child = child_on(tmp_path / "spool")
        assert child.stdout.readline() == b"open\n"
        lines = [child.stdout.readline() for _ in range(dice.randrange(1, 400))]
        child.send_signal(signal.SIGKILL)
        lines += child.stdout.read().splitlines(keepends=True)
        child.wait()
        child.stdout.close()
        before = len(acknowledged)
        acknowledged |= {int(number): text for number, _, text in (line.rstrip(b"\n").partition(b" ") for line in lines)}
        assert len(acknowledged) == before + len(lines), "a number was given twice"
    spool = await Spool.open(tmp_path / "spool", SpoolRule(segment_bytes=20_000))
    found = dict(await spool.read(0, MANY, 1000 * MANY))
    assert {number: found.get(number) for number in acknowledged} == acknowledged
    assert list(found) == list(range(1, spool.durable + 1))
    assert spool.corrupt_records == 0
    assert 0 < spool.applied <= spool.durable
    await spool.close()


async def test_the_lock_keeps_others_out_until_its_holder_is_killed(tmp_path):
    directory = tmp_path / "spool"
    child = child_on(directory)
    assert child.stdout.readline() == b"open\n"
    with pytest.raises(SpoolLockedError):
        await Spool.open(directory)
    child.kill()
    child.communicate()
    spool = await Spool.open(directory)
    with pytest.raises(SpoolLockedError):
        await Spool.open(directory)  # in the same process, too
    await spool.close()
    again = await Spool.open(directory)
    await again.close()


async def test_an_opening_given_up_lets_go_of_the_lock(tmp_path):
    opening = asyncio.create_task(Spool.open(tmp_path))
    await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    for _ in range(500):
        try:
            spool = await Spool.open(tmp_path)
        except SpoolLockedError:
            await asyncio.sleep(0.01)
        else:
            break
    await spool.close()
