"""The stored last good plan: whole or refused, under damage, full disks and writers killed half-way."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.experiments.errors import LastGoodCorruptError, StateUnavailableError
from service.experiments.last_good import (
    AcceptedPlan,
    LastGoodDirectory,
    Newest,
    decode_accepted,
    digest_of,
    encode_accepted,
)
from tests.service.experiments.plans import plan_for


def _accepted(generation, text=None):
    text = plan_for(f"din@{generation}") if text is None else text
    return AcceptedPlan(generation, digest_of(text), 1_700_000_000.25, text)


def _saved(directory, generation):
    saved = LastGoodDirectory(directory)
    with saved.locked(1):
        saved.save(_accepted(generation))
    return saved


texts = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=60)


@given(text=texts, generation=st.integers(1, 10**15 - 1), saved_at=st.floats(0, 4e9))
def test_what_is_written_is_read(text, generation, saved_at):
    accepted = AcceptedPlan(generation, digest_of(text), saved_at, text)
    assert decode_accepted(encode_accepted(accepted)) == accepted


def test_a_whole_number_of_seconds_is_read_back():
    accepted = AcceptedPlan(1, digest_of(""), 5, "")
    assert decode_accepted(encode_accepted(accepted)) == accepted


def test_no_flipped_bit_or_byte_is_ever_accepted():
    raw = encode_accepted(_accepted(7, "version: 1\ndefaults: {model: 用户@1}\n"))
    for place in range(len(raw)):
        for mask in (1, 2, 4, 8, 16, 32, 64, 128, 255):
            damaged = bytearray(raw)
            damaged[place] ^= mask
            with pytest.raises(LastGoodCorruptError):
                decode_accepted(bytes(damaged))


def test_no_torn_or_lengthened_file_is_ever_accepted():
    raw = encode_accepted(_accepted(7))
    for damaged in [*(raw[:length] for length in range(len(raw))), raw + b" ", raw + b"\n", raw * 2, b"\xef\xbb\xbf" + raw]:
        with pytest.raises(LastGoodCorruptError):
            decode_accepted(damaged)


@pytest.mark.parametrize("raw", [b"null", b"[]", b"{}", b"[" * 100_000, b'{"format": 1}', b"\xff\xfe", b"1e999", b'"\\ud800"'])
def test_other_json_is_refused_without_a_crash(raw):
    with pytest.raises(LastGoodCorruptError):
        decode_accepted(raw)


def test_a_directory_that_is_not_there_holds_nothing_and_is_not_made_by_reading(tmp_path):
    saved = LastGoodDirectory(tmp_path / "state")
    assert (saved.newest(), saved.newest_generation()) == (Newest(0, None, None), 0)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_directory_has_given_no_number(tmp_path):
    assert LastGoodDirectory(tmp_path).newest_generation() == 0


def test_the_newest_replaces_the_older_ones(tmp_path):
    for generation in (1, 2, 10):
        saved = _saved(tmp_path, generation)
    assert saved.newest() == Newest(10, _accepted(10), None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plan-10.json", "plan.lock"]


def test_numbers_are_compared_as_numbers(tmp_path):
    for generation in (9, 10):
        (tmp_path / f"plan-{generation}.json").write_bytes(encode_accepted(_accepted(generation)))
    assert LastGoodDirectory(tmp_path).newest().generation == 10


def test_a_damaged_newest_is_reported_with_its_number_and_no_older_one_stands_in(tmp_path):
    (tmp_path / "plan-3.json").write_bytes(encode_accepted(_accepted(3)))
    (tmp_path / "plan-4.json").write_bytes(encode_accepted(_accepted(4))[:-1])
    newest = LastGoodDirectory(tmp_path).newest()
    assert newest == Newest(4, None, "plan-4.json: torn or altered: its checksum does not fit")


def test_a_file_under_another_number_is_refused(tmp_path):
    (tmp_path / "plan-9.json").write_bytes(encode_accepted(_accepted(3)))
    assert LastGoodDirectory(tmp_path).newest() == Newest(9, None, "plan-9.json: holds generation 3")


def test_a_directory_in_place_of_the_file_is_a_problem_and_no_crash(tmp_path):
    (tmp_path / "plan-9.json").mkdir()
    assert LastGoodDirectory(tmp_path).newest() == Newest(9, None, "plan-9.json: Is a directory")


@pytest.mark.parametrize("name", ["plan-0.json", "plan-01.json", "plan--1.json", "plan-1.json.bak", f"plan-{10**16}.json", "x"])
def test_other_names_are_no_generations(tmp_path, name):
    (tmp_path / name).write_bytes(encode_accepted(_accepted(1)))
    assert LastGoodDirectory(tmp_path).newest() == Newest(0, None, None)


def test_a_state_directory_that_is_a_file_cannot_be_used(tmp_path):
    path = tmp_path / "state"
    path.write_text("")
    saved = LastGoodDirectory(path)
    with pytest.raises(StateUnavailableError, match="Not a directory"):
        saved.newest()
    with pytest.raises(StateUnavailableError, match="File exists"), saved.locked(0):
        pass


class _KilledError(BaseException):
    """Stands for SIGKILL: no ``except Exception`` or ``except OSError`` sees it."""


@pytest.mark.parametrize("step", ["fsync", "rename", "listing"])
def test_a_writer_killed_at_any_step_leaves_the_old_or_the_new_and_the_next_writer_cleans_up(tmp_path, monkeypatch, step):
    _saved(tmp_path, 1)

    def killed(*_, **__):
        raise _KilledError

    where = {"fsync": (os, "fsync"), "rename": (Path, "rename"), "listing": (LastGoodDirectory, "_drop_older")}
    with monkeypatch.context() as patched:
        patched.setattr(*where[step], killed)
        with pytest.raises(_KilledError):
            _saved(tmp_path, 2)
    left = LastGoodDirectory(tmp_path).newest()
    assert left.accepted == _accepted(2 if step == "listing" else 1)
    assert _saved(tmp_path, 3).newest().accepted == _accepted(3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plan-3.json", "plan.lock"]


@pytest.mark.parametrize("step", [(os, "fsync"), (Path, "rename")])
def test_a_full_disk_is_an_error_that_changes_nothing(tmp_path, monkeypatch, step):
    saved = _saved(tmp_path, 1)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(*step, full)
    with pytest.raises(StateUnavailableError, match="not saved: No space left on device"):
        _saved(tmp_path, 2)
    assert saved.newest().accepted == _accepted(1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plan-1.json", "plan.lock"]


def test_the_lock_lets_one_in_and_tells_the_other_in_time(tmp_path):
    with (
        LastGoodDirectory(tmp_path).locked(1),
        pytest.raises(StateUnavailableError, match="locked by another process"),
        LastGoodDirectory(tmp_path).locked(0.05),
    ):
        pass
    with LastGoodDirectory(tmp_path).locked(0):
        pass


def test_who_waits_for_the_lock_gets_it_when_it_is_free(tmp_path):
    entered = threading.Event()

    def wait():
        with LastGoodDirectory(tmp_path).locked(10):
            entered.set()

    thread = threading.Thread(target=wait)
    with LastGoodDirectory(tmp_path).locked(1):
        thread.start()
        assert not entered.wait(0.05)
    thread.join()
    assert entered.is_set()


def test_a_reader_whose_file_is_replaced_meanwhile_reads_the_replacement(tmp_path, monkeypatch):
    saved = _saved(tmp_path, 1)
    listed = iter([1, 2])
    _saved(tmp_path, 2)
    monkeypatch.setattr(saved, "newest_generation", lambda: next(listed))
    assert saved.newest() == Newest(2, _accepted(2), None)
