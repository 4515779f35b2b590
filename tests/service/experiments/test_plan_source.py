"""The active plan: who becomes it, under which number, and what never changes it."""

from __future__ import annotations

import os
import threading

import pytest

from feature_store.strict_yaml import MAX_BYTES
from service.experiments.errors import StateUnavailableError
from service.experiments.last_good import AcceptedPlan, LastGoodDirectory, digest_of
from service.experiments.plan_file import read_plan_text
from service.experiments.plan_source import PlanSource
from tests.service.experiments.plans import FALLBACK, FULL_PLAN, Published, all_published, plan_for

V1, V2, V3 = (plan_for(f"din@{version}") for version in (1, 2, 3))
BAD = "version: 1\ndefaults: {model: din}\nlayers: 5\n"
BAD_PROBLEMS = (
    "defaults.model: a model reference is name@version or name@latest, such as deepfm@3",
    "layers: Input should be a valid list",
)


class Place:
    """A plan file and its state directory, and the workers that share them."""

    def __init__(self, root):
        self.path = root / "plan.yaml"
        self.state = root / "state"
        self.clock = 1_000.0

    def write(self, text):
        temporary = self.path.with_suffix(".new")
        temporary.write_text(text, encoding="utf-8")
        temporary.rename(self.path)

    def worker(self, check=None):
        return PlanSource(self.path, self.state, check, fallback=FALLBACK, now=lambda: self.clock, lock_timeout_s=0.05)

    def started(self, check=None):
        worker = self.worker(check)
        worker.reload()
        return worker

    def snapshot(self):
        """Everything in the state directory, to the nanosecond."""
        if not self.state.exists():
            return None
        return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in self.state.iterdir()}


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def _active(worker):
    return worker.active.generation, worker.active.plan.defaults.model, worker.active.stale


# --- numbers


def test_before_the_first_load_the_fallback_is_active_and_says_so(place):
    assert _active(place.worker()) == (0, "popular@latest", "no plan was loaded yet")


def test_each_new_plan_gets_the_next_number_and_an_old_plan_a_new_one(place):
    worker = place.worker()
    seen = []
    for text in (V1, V2, V1):
        place.write(text)
        seen.append((worker.reload().outcome, *_active(worker)))
    assert seen == [("changed", 1, "din@1", None), ("changed", 2, "din@2", None), ("changed", 3, "din@1", None)]


def test_the_same_text_keeps_the_active_plan_itself(place):
    place.write(V1)
    worker = place.started()
    before = worker.active
    place.write(V1)
    assert worker.reload().outcome == "unchanged"
    assert worker.active is before


def test_the_active_plan_tells_its_digest_and_times(place):
    place.write(V1)
    worker = place.started()
    place.clock += 60
    later = place.started().active
    assert (worker.active.digest, worker.active.loaded_at, worker.active.saved_at) == (digest_of(V1), 1_000.0, 1_000.0)
    assert (later.digest, later.loaded_at, later.saved_at) == (digest_of(V1), 1_060.0, 1_000.0)


def test_a_restart_and_other_workers_take_over_the_number(place):
    place.write(V1)
    place.started()
    place.write(V2)
    workers = [place.started() for _ in range(3)]
    assert {_active(worker) for worker in workers} == {(2, "din@2", None)}


def test_a_worker_that_missed_a_plan_follows_to_its_number(place):
    place.write(V1)
    first, second = place.started(), place.started()
    for text in (V2, V1):
        place.write(text)
        first.reload()
    assert second.reload().outcome == "changed"
    assert _active(second) == _active(first) == (3, "din@1", None)


def test_a_lost_state_directory_is_written_again_under_the_running_number(place):
    place.write(V1)
    worker = place.started()
    place.write(V2)
    worker.reload()
    (place.state / "plan-2.json").unlink()
    assert worker.reload().outcome == "unchanged"
    assert _active(place.started()) == (2, "din@2", None)


def test_a_number_that_two_plans_claim_is_given_to_neither(place):
    """The state directory was emptied and another process began to count again."""
    place.write(V1)
    worker = place.started()
    (place.state / "plan-1.json").unlink()
    place.write(V2)
    place.started()
    worker.reload()
    assert _active(worker) == (2, "din@2", None)


def test_a_number_that_another_plan_took_is_not_kept_by_the_running_one(place):
    place.write(V1)
    worker = place.started()
    (place.state / "plan-1.json").unlink()
    place.write(V2)
    place.started()
    place.write(V1)
    worker.reload()
    assert _active(worker) == (2, "din@1", None)


def test_two_files_that_share_a_state_directory_do_not_number_each_other_for_ever(place):
    place.write(V1)
    first = place.started()
    other = PlanSource(place.path.with_name("other.yaml"), place.state, None, fallback=FALLBACK)
    place.path.with_name("other.yaml").write_text(V2)
    other.reload()
    state = place.snapshot()
    for _ in range(3):
        assert (first.reload().outcome, other.reload().outcome) == ("unchanged", "unchanged")
    assert (_active(first), _active(other)) == ((1, "din@1", None), (2, "din@2", None))
    assert place.snapshot() == state


def test_an_older_state_directory_put_back_does_not_bring_back_its_number(place):
    worker = place.worker()
    kept = None
    for text in (V1, V2, V3):
        place.write(text)
        worker.reload()
        kept = kept or (place.state / "plan-1.json").read_bytes()
    (place.state / "plan-3.json").unlink()
    (place.state / "plan-1.json").write_bytes(kept)
    place.write(V1)
    worker.reload()
    assert _active(worker) == (4, "din@1", None)


def test_an_older_state_directory_put_back_is_brought_up_to_the_running_plan(place):
    place.write(V1)
    worker = place.started()
    kept = (place.state / "plan-1.json").read_bytes()
    place.write(V2)
    worker.reload()
    (place.state / "plan-2.json").unlink()
    (place.state / "plan-1.json").write_bytes(kept)
    assert worker.reload().outcome == "unchanged"
    assert _active(place.started()) == _active(worker) == (2, "din@2", None)


# --- bad plans


def test_a_bad_plan_changes_nothing_and_says_everything(place):
    place.write(V1)
    worker = place.started()
    before, state = worker.active, place.snapshot()
    place.write(BAD)
    result = worker.reload()
    assert (result.outcome, result.problems) == ("refused", BAD_PROBLEMS)
    assert worker.active is before is result.active
    assert place.snapshot() == state


def test_a_bad_first_plan_does_not_even_make_the_state_directory(place):
    place.write(BAD)
    worker = place.worker()
    assert worker.reload().problems == BAD_PROBLEMS
    assert place.snapshot() is None
    assert _active(worker) == (
        0,
        "popular@latest",
        f"the built-in plan without experiments serves: {BAD_PROBLEMS[0]} (and 1 more)",
    )


def test_a_plan_whose_models_are_unknown_is_refused_before_anything_is_saved(place):
    place.write(FULL_PLAN)
    published = all_published()
    del published.scores["din@3"]
    worker = place.worker(published)
    assert worker.reload().problems == ("layers.0.experiments.0.arms.1.params.model: din@3: no published version",)
    assert place.snapshot() is None
    published.scores["din@3"] = ("ctr", "cvr")
    assert worker.reload().outcome == "changed"


def test_a_check_that_breaks_leaves_the_running_plan_and_the_state(place):
    place.write(V1)
    worker = place.started(check := Published(din__1=("ctr",)))
    state = place.snapshot()
    place.write(V2)
    check.scores = None
    with pytest.raises(TypeError):
        worker.reload()
    assert _active(worker) == (1, "din@1", None)
    assert place.snapshot() == state


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path: path.unlink(), "No such file or directory"),
        (lambda path: (path.unlink(), path.mkdir()), "not a regular file"),
        (lambda path: (path.unlink(), os.mkfifo(path)), "not a regular file"),
        (lambda path: path.write_bytes(b"\xff"), "not UTF-8 at byte 0"),
        (lambda path: path.write_bytes(b"#" * 1_000_001), "longer than 1000000 bytes"),
        (lambda path: (path.unlink(), path.symlink_to(path)), "symbolic links"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_and_the_plan_runs_on(place, spoil, words):
    place.write(V1)
    worker = place.started()
    spoil(place.path)
    (problem,) = worker.reload().problems
    assert str(place.path) in problem
    assert words in problem
    assert _active(worker) == (1, "din@1", None)


def test_a_file_of_just_the_allowed_length_is_read(place):
    place.write("#" * MAX_BYTES)
    assert len(read_plan_text(place.path)) == MAX_BYTES


# --- the last good plan


def test_a_start_without_the_file_runs_the_last_good_plan_and_tells_its_age(place):
    place.write(V1)
    place.started()
    place.path.unlink()
    place.clock += 3_600
    state = place.snapshot()
    worker = place.worker()
    result = worker.reload()
    assert (result.outcome, worker.active.generation, worker.active.plan.defaults.model) == ("refused", 1, "din@1")
    assert worker.active.saved_at == 1_000.0
    assert worker.active.stale.startswith("the last good plan serves, accepted 3600 s ago: ")
    assert worker.active.stale.endswith("No such file or directory")
    assert place.snapshot() == state


def test_a_start_with_a_bad_file_runs_the_last_good_plan_and_lists_the_problems(place):
    place.write(V1)
    place.started()
    place.write(BAD)
    worker = place.worker()
    assert worker.reload().problems == BAD_PROBLEMS
    assert _active(worker)[:2] == (1, "din@1")
    assert BAD_PROBLEMS[0] in worker.active.stale


def test_the_file_put_right_ends_the_staleness_under_the_same_number(place):
    place.write(V1)
    place.started()
    place.write(BAD)
    worker = place.started()
    place.write(V1)
    assert worker.reload().outcome == "unchanged"
    assert _active(worker) == (1, "din@1", None)


def test_a_worker_takes_over_a_newer_good_plan_even_if_the_file_is_bad_by_now(place):
    place.write(V1)
    first, second = place.started(), place.started()
    place.write(V2)
    first.reload()
    place.write(BAD)
    assert second.has_changed()
    assert second.reload().problems == BAD_PROBLEMS
    assert _active(second)[:2] == (2, "din@2")
    assert second.active.stale is not None
    assert not second.has_changed()


def test_a_last_good_plan_whose_model_is_gone_is_not_run(place):
    place.write(V1)
    place.started(Published(din__1=("ctr",)))
    place.path.unlink()
    worker = place.worker(Published())
    problems = worker.reload().problems
    assert problems[1] == "last good plan: defaults.model: din@1: no published version"
    assert _active(worker)[:2] == (0, "popular@latest")


def test_no_damage_to_the_last_good_plan_crashes_a_start_or_is_believed(place):
    place.write(V1)
    place.started()
    saved = place.state / "plan-1.json"
    raw = saved.read_bytes()
    place.path.unlink()
    for offset in range(0, len(raw), 3):
        saved.write_bytes(raw[:offset] + bytes([raw[offset] ^ 0x20]) + raw[offset + 1 :])
        worker = place.started()
        assert _active(worker)[:2] == (0, "popular@latest")
    assert "last good plan: plan-1.json: torn or altered" in worker.reload().problems[1]


def test_after_a_damaged_last_good_plan_its_number_is_not_given_again(place):
    place.write(V1)
    place.started()
    (place.state / "plan-1.json").write_bytes(b"torn")
    place.write(V2)
    assert _active(place.started()) == (2, "din@2", None)


def test_a_plan_that_cannot_be_saved_is_refused_and_tried_again(place, monkeypatch):
    place.write(V1)
    worker = place.started()
    place.write(V2)

    def full(*_):
        raise StateUnavailableError("not saved: No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(LastGoodDirectory, "save", full)
        assert worker.reload().problems == ("not saved: No space left on device",)
        assert _active(worker) == (1, "din@1", None)
    assert worker.has_changed()
    worker.reload()
    assert _active(worker) == (2, "din@2", None)


def test_a_state_directory_that_is_a_file_leaves_the_fallback_and_a_reason(place):
    place.write(V1)
    place.state.write_text("")
    worker = place.started()
    assert _active(worker)[:2] == (0, "popular@latest")
    assert "Not a directory" in worker.active.stale


def test_a_lock_that_is_not_released_refuses_the_reload_in_time(place):
    place.write(V1)
    worker = place.worker()
    with LastGoodDirectory(place.state).locked(1):
        (problem,) = worker.reload().problems
    assert "locked by another process" in problem
    assert worker.reload().outcome == "changed"


def test_a_file_that_changes_while_the_lock_is_awaited_is_read_again(place):
    place.write(V1)
    worker = PlanSource(place.path, place.state, None, fallback=FALLBACK, lock_timeout_s=30)
    reloading = threading.Thread(target=worker.reload)
    with LastGoodDirectory(place.state).locked(1):
        reloading.start()
        reloading.join(0.1)
        place.write(V2)
    reloading.join()
    assert _active(worker) == (1, "din@2", None)


# --- noticing changes


def test_nothing_has_changed_after_a_reload_good_or_bad(place):
    worker = place.worker()
    assert worker.has_changed()
    for text in (V1, BAD, V2):
        place.write(text)
        assert worker.has_changed()
        worker.reload()
        assert not worker.has_changed()


def test_a_file_that_goes_and_comes_is_noticed_once_each(place):
    place.write(V1)
    worker = place.started()
    place.path.unlink()
    assert worker.has_changed()
    worker.reload()
    assert not worker.has_changed()
    place.write(V1)
    assert worker.has_changed()


def test_a_rewrite_of_the_same_length_with_its_old_time_is_noticed(place):
    place.write(V1)
    worker = place.started()
    before = place.path.stat()
    place.path.write_text(V2)
    os.utime(place.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert worker.has_changed()


def test_a_swapped_link_is_noticed_as_kubernetes_swaps_them(place, tmp_path):
    for version, text in (("..v1", V1), ("..v2", V2)):
        (tmp_path / version).mkdir()
        (tmp_path / version / "plan.yaml").write_text(text)
    (tmp_path / "..data").symlink_to("..v1")
    place.path.symlink_to("..data/plan.yaml")
    worker = place.started()
    (tmp_path / "..data_new").symlink_to("..v2")
    (tmp_path / "..data_new").rename(tmp_path / "..data")
    assert worker.has_changed()
    worker.reload()
    assert _active(worker) == (2, "din@2", None)


def test_a_plan_that_another_worker_saved_is_noticed(place):
    place.write(V1)
    first, second = place.started(), place.started()
    place.write(V2)
    first.reload()
    second.reload()
    assert not second.has_changed()
    saved = LastGoodDirectory(place.state)
    with saved.locked(1):
        saved.save(AcceptedPlan(3, digest_of(V2), 1_000.0, V2))
    assert second.has_changed()
    second.reload()
    assert _active(second) == (3, "din@2", None)
    assert not second.has_changed()


# --- several at once


def test_reloads_from_many_threads_take_turns_and_end_at_the_last_text(place):
    worker = PlanSource(place.path, place.state, None, fallback=FALLBACK)
    place.write(V1)
    texts_of: dict[int, set[str]] = {}
    stop = threading.Event()

    def reload():
        while not stop.is_set():
            active = worker.reload().active
            texts_of.setdefault(active.generation, set()).add(active.digest)

    threads = [threading.Thread(target=reload) for _ in range(6)]
    for thread in threads:
        thread.start()
    for text in (V2, BAD, V3, V1, V2) * 3:
        place.write(text)
        threading.Event().wait(0.01)
    stop.set()
    for thread in threads:
        thread.join()
    worker.reload()
    assert worker.active.plan.defaults.model == "din@2"
    assert all(len(digests) == 1 for digests in texts_of.values())
