"""Every acknowledged event is in the store once, whatever the store forgets, refuses or is slow to say."""

import asyncio
import contextlib
import copy
import dataclasses
import random
import shutil

import pytest

from feature_store.errors import SpoolFullError, StoreRewoundError, StoreUnavailableError
from feature_store.events.applier import ApplierRule, EventApplier
from feature_store.events.event import new_event
from feature_store.events.ports import Applied, Standing
from feature_store.events.spool import Spool, SpoolRule

FAST = ApplierRule(batch_records=7, check_s=0.05, first_pause_s=0.001, longest_pause_s=0.01)


class ForgetfulStore:
    """Applies like the real one; ``crash`` brings an older state back, mark and events together."""

    def __init__(self):
        self.state = {"events": {}, "applied": [], "marks": {}}
        self.saved = [copy.deepcopy(self.state)]
        self.trouble = lambda: None
        self.late = False
        self.servers_changed = False

    async def apply(self, events, mark):
        await asyncio.sleep(0)
        self._maybe_fail()
        noted = self.state["marks"].get(mark.spool_id)
        if self.servers_changed and mark.before is None:  # as a cluster does it: the mark is put anew by those that are there
            self.state["marks"][mark.spool_id], self.servers_changed = mark.start, False
        elif self.servers_changed or noted != mark.before:
            raise StoreRewoundError(noted, servers_changed=self.servers_changed)
        outcomes = []
        for event in events:
            fresh = event.event_id not in self.state["events"]
            if fresh:
                self.state["events"][event.event_id] = len(self.state["events"]) + 1
                self.state["applied"].append(event.event_id)
            outcomes.append(Applied(fresh, self.state["events"][event.event_id]))
        self._maybe_fail()
        self.state["marks"][mark.spool_id] = mark.after
        self.saved.append(copy.deepcopy(self.state))
        if self.late:
            self.late = False
            raise StoreUnavailableError("timeout")
        return outcomes

    async def applied_through(self, spool_id):
        self._maybe_fail()
        return Standing(self.state["marks"].get(spool_id), servers_changed=self.servers_changed)

    def crash(self, steps_back):
        self.state = copy.deepcopy(self.saved[max(0, len(self.saved) - 1 - steps_back)])

    def _maybe_fail(self):
        reason = self.trouble()
        if reason:
            raise StoreUnavailableError(reason)


class Told:
    def __init__(self):
        self.applied, self.rewound, self.failed = 0, 0, []
        self.unrecoverable, self.rejected = 0, 0

    def batch_applied(self, events, fresh):
        assert len(events) == len(fresh)
        self.applied += sum(fresh)

    def replay_began(self):
        self.rewound += 1

    def try_failed(self, reason):
        self.failed.append(reason)

    def events_lost(self, count):
        self.unrecoverable += count

    def record_rejected(self):
        self.rejected += 1


def event(number):
    return new_event(event_id=f"e{number}", user_id="u", item_id="i", type="click", time=float(number), received_at=0.0)


@contextlib.asynccontextmanager
async def applying(directory, store, told=None, rule=FAST, spool_rule=SpoolRule()):  # noqa: B008
    spool = await Spool.open(directory, spool_rule)
    applier = EventApplier(spool, store, told or Told(), rule)
    task = asyncio.create_task(applier.run())
    try:
        yield applier
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await spool.close()


async def until(condition, seconds=20):
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - the code under test has no event to tell a test by
            await asyncio.sleep(0.005)


async def test_outcomes_come_back_in_order_to_whoever_sent_the_events(tmp_path):
    store = ForgetfulStore()
    async with applying(tmp_path, store) as applier:
        batches = [[event(start + n) for n in range(5)] for start in range(0, 100, 5)]
        results = await asyncio.gather(*(applier.submit(batch, 10) for batch in batches))
    for batch, outcomes in zip(batches, results, strict=True):
        assert outcomes == [Applied(True, store.state["events"][each.event_id]) for each in batch]


async def test_a_repeated_event_is_told_as_such(tmp_path):
    async with applying(tmp_path, ForgetfulStore()) as applier:
        await applier.submit([event(1)], 10)
        assert await applier.submit([event(1), event(2)], 10) == [Applied(False, 1), Applied(True, 2)]


async def test_a_lost_reply_is_no_duplicate(tmp_path):
    store = ForgetfulStore()
    async with applying(tmp_path, store) as applier:
        store.late = True
        assert await applier.submit([event(1)], 10) == [Applied(True, 1)]
        assert store.state["applied"] == ["e1"]


async def test_without_the_store_events_are_kept_and_applied_when_it_comes_back(tmp_path):
    store, told = ForgetfulStore(), Told()
    store.trouble = lambda: "refused"
    async with applying(tmp_path, store, told) as applier:
        assert await applier.submit([event(1), event(2)], 0.05) is None
        assert applier.backlog == 2
        store.trouble = lambda: None
        await until(lambda: applier.backlog == 0)
    assert store.state["applied"] == ["e1", "e2"]
    assert set(told.failed) == {"refused"}


async def test_a_new_process_applies_what_the_last_one_had_taken(tmp_path):
    store = ForgetfulStore()
    store.trouble = lambda: "refused"
    async with applying(tmp_path, store) as applier:
        await applier.submit([event(n) for n in range(30)], 0.01)
    store.trouble = lambda: None
    async with applying(tmp_path, store) as applier:
        await until(lambda: applier.backlog == 0)
    assert store.state["applied"] == [f"e{n}" for n in range(30)]


@pytest.mark.parametrize("idle", [True, False])
async def test_a_store_that_forgot_its_last_writes_gets_them_again(tmp_path, idle):
    store, told = ForgetfulStore(), Told()
    async with applying(tmp_path, store, told) as applier:
        for number in range(40):
            await applier.submit([event(number)], 10)
        store.crash(25)
        assert len(store.state["applied"]) < 40
        if not idle:
            await applier.submit([event(40)], 10)
        await until(lambda: len(store.state["applied"]) == (40 if idle else 41))
    assert sorted(store.state["applied"]) == sorted(set(store.state["applied"]))
    assert told.rewound == 1


async def test_a_store_that_lost_everything_gets_all_that_the_spool_still_has(tmp_path):
    store = ForgetfulStore()
    async with applying(tmp_path, store) as applier:
        await applier.submit([event(n) for n in range(20)], 10)
        store.crash(10**6)
        await until(lambda: len(store.state["applied"]) == 20)


@pytest.mark.parametrize("seed", range(6))
async def test_random_faults_lose_nothing_and_count_nothing_twice(tmp_path, seed):
    draw = random.Random(seed)
    store = ForgetfulStore()
    store.trouble = lambda: draw.choice(["timeout", "refused", "loading"]) if draw.random() < 0.2 else None
    acknowledged = set()
    for _ in range(4):  # four lives of the process
        async with applying(tmp_path, store) as applier:
            for _ in range(25):
                batch = [event(draw.randrange(400)) for _ in range(draw.randint(1, 9))]
                await applier.submit(batch, draw.choice([0.0, 0.002, 0.02]))
                acknowledged |= {each.event_id for each in batch}
                if draw.random() < 0.15:
                    store.crash(draw.randrange(6))
    store.trouble = lambda: None
    async with applying(tmp_path, store) as applier:
        await until(lambda: applier.backlog == 0 and acknowledged <= set(store.state["applied"]))
    assert len(store.state["applied"]) == len(set(store.state["applied"]))


async def test_a_full_spool_refuses_and_takes_again_once_the_store_is_back(tmp_path):
    store = ForgetfulStore()
    store.trouble = lambda: "timeout"
    small = SpoolRule(capacity_bytes=4_000, segment_bytes=1_000)
    async with applying(tmp_path, store, spool_rule=small) as applier:
        results = await asyncio.gather(*(applier.submit([event(n)], 0) for n in range(1_000)), return_exceptions=True)
        assert {type(result) for result in results} == {SpoolFullError, type(None)}
        store.trouble = lambda: None
        await until(lambda: applier._spool.pending == 0)
        assert await applier.submit([event(2_000)], 10) is not None


async def test_a_record_that_is_no_event_does_not_stop_the_others(tmp_path):
    spool = await Spool.open(tmp_path)
    await spool.append([b"what"])
    await spool.close()
    store, told = ForgetfulStore(), Told()
    async with applying(tmp_path, store, told) as applier:
        assert await applier.submit([event(1)], 10) == [Applied(True, 1)]
        store.crash(10**6)  # what is no event is no event the second time either
        await until(lambda: store.state["applied"] == ["e1"] and applier.backlog == 0)
        await applier.submit([event(2)], 10)
    assert told.rejected == 1
    assert b'"payload": "d2hhdA=="' in (tmp_path / "rejected").read_bytes()
    assert len((tmp_path / "rejected").read_bytes().splitlines()) == 1


async def test_a_caller_that_leaves_changes_nothing_for_the_others(tmp_path):
    store = ForgetfulStore()
    async with applying(tmp_path, store) as applier:
        tasks = [asyncio.create_task(applier.submit([event(n)], 10)) for n in range(20)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(result[0].fresh for result in results[1::2])


@pytest.mark.parametrize("kept", [True, False])
async def test_events_that_neither_the_store_nor_the_spool_has_any_more_are_told(tmp_path, caplog, kept):
    store, told = ForgetfulStore(), Told()
    rule = SpoolRule(segment_bytes=300, retain_s=3600.0 if kept else 0.0)
    async with applying(tmp_path, store, told, spool_rule=rule) as applier:
        for number in range(40):
            await applier.submit([event(number)], 10)
        store.crash(10**6)
        await until(lambda: store.state["applied"][-1:] == ["e39"])
    assert (len(store.state["applied"]) == 40) is kept
    assert len(store.state["applied"]) + told.unrecoverable == 40
    assert any("keeps no longer" in record.message for record in caplog.records) is not kept


async def test_what_a_store_lost_after_the_spool_let_it_go_is_counted_once_and_waited_for_never(tmp_path):
    store, told = ForgetfulStore(), Told()
    async with applying(tmp_path, store, told, spool_rule=SpoolRule(retain_s=0.0)) as applier:
        await applier.submit([event(n) for n in range(5)], 10)
        await until(lambda: applier._spool.pending == 0)
        await applier._spool.tidy()
        assert applier.drained
        store.crash(10**6)
        await until(lambda: told.unrecoverable)
        await asyncio.sleep(5 * FAST.check_s)
        assert (told.unrecoverable, applier.backlog) == (5, 0)
        assert await applier.submit([event(9)], 10) == [Applied(True, 1)]
        store.crash(10**6)
        await until(lambda: store.state["applied"] == ["e9"])
        assert told.unrecoverable == 5


async def test_an_outcome_that_is_forgotten_is_not_known(tmp_path, monkeypatch):
    monkeypatch.setattr("feature_store.events.applier._REMEMBERED_OUTCOMES", 3)
    async with applying(tmp_path, ForgetfulStore()) as applier:
        assert await applier.submit([event(n) for n in range(7)], 10) is None


async def test_two_copies_of_one_spool_back_off_and_lose_no_event(tmp_path, caplog):
    store = ForgetfulStore()
    async with applying(tmp_path / "a", store) as first:
        await first.submit([event(n) for n in range(5)], 10)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    slow = dataclasses.replace(FAST, rewound_pause_s=0.2)
    told = Told()
    async with applying(tmp_path / "a", store, told, slow) as first, applying(tmp_path / "b", store, told, slow) as second:
        sent = 5
        async with asyncio.timeout(20):
            while not any("copy of the spool" in record.message for record in caplog.records):
                await asyncio.gather(*(one.submit([event(sent + n)], 0.05) for n, one in enumerate((first, second, second))))
                sent += 3
        await until(lambda: len(store.state["applied"]) == sent)
        before = told.rewound
        await asyncio.sleep(0.5)
        assert told.rewound - before < 20


async def test_freshness_is_told_by_event(tmp_path):
    seen = []
    told = Told()
    told.batch_applied = lambda events, fresh: seen.extend(
        (each.event_id, is_fresh) for each, is_fresh in zip(events, fresh, strict=True)
    )
    async with applying(tmp_path, ForgetfulStore(), told) as applier:
        await applier.submit([event(1)], 10)
        await applier.submit([event(1), event(2)], 10)
    assert seen == [("e1", True), ("e1", False), ("e2", True)]


@pytest.mark.parametrize("again", [False, True])
async def test_other_servers_get_all_that_is_retained_and_nothing_counts_as_lost(tmp_path, caplog, again):
    """A planned failover or a new master: the number that the mark holds has not fallen."""
    store, told = ForgetfulStore(), Told()
    rule = SpoolRule(segment_bytes=300, retain_s=0.0)
    async with applying(tmp_path, store, told, spool_rule=rule) as applier:
        for number in range(20):
            await applier.submit([event(number)], 10)
        if not again:
            store.servers_changed = True
            await until(lambda: not store.servers_changed)
            assert await applier.submit([event(20)], 10) == [Applied(True, 21)]
            assert store.state["marks"][applier._spool.spool_id] == 21
    if again:  # noticed by the next process only
        store.servers_changed = True
        async with applying(tmp_path, store, told, spool_rule=rule) as applier:
            assert await applier.submit([event(20)], 10) == [Applied(True, 21)]
    async with applying(tmp_path, store, told, spool_rule=rule) as applier:
        await applier.submit([event(21)], 10)
    assert told.unrecoverable == 0
    assert not any("keeps no longer" in record.message for record in caplog.records)


async def test_a_mark_that_is_lower_on_other_servers_counts_what_is_gone(tmp_path):
    store, told = ForgetfulStore(), Told()
    async with applying(tmp_path, store, told, spool_rule=SpoolRule(retain_s=0.0)) as applier:
        for number in range(10):
            await applier.submit([event(number)], 10)
        await until(lambda: applier._spool.pending == 0)
        await applier._spool.tidy()
        store.servers_changed = True
        store.crash(4)
        await until(lambda: told.unrecoverable)
        assert told.unrecoverable == 4


async def test_a_process_that_ends_amid_a_replay_leaves_no_false_loss_to_the_next(tmp_path):
    store, told = ForgetfulStore(), Told()
    rule = SpoolRule(segment_bytes=300, retained_bytes=1_000)
    async with applying(tmp_path, store, told, spool_rule=rule) as applier:
        for number in range(40):
            await applier.submit([event(number)], 10)
        await until(lambda: applier._spool.pending == 0 and applier._spool.oldest > 9)
    store.servers_changed = True
    store.trouble = iter([None, None, None, *["timeout"] * 100_000]).__next__  # one batch is applied, not marked
    async with applying(tmp_path, store, told, spool_rule=rule):
        await until(lambda: told.failed)
    store.trouble = lambda: None
    async with applying(tmp_path, store, told, spool_rule=rule) as applier:
        await applier.submit([event(40)], 10)
    assert told.unrecoverable == 0
    assert told.rewound


@pytest.mark.parametrize("method", ["batch_applied", "replay_began", "try_failed", "events_lost", "record_rejected"])
async def test_no_observer_that_raises_stops_the_events(tmp_path, method):
    def fails(*_):
        raise RuntimeError("observer")

    store, told = ForgetfulStore(), Told()
    setattr(told, method, fails)
    rule = SpoolRule(segment_bytes=300, retained_bytes=600)
    async with applying(tmp_path, store, told, spool_rule=rule) as applier:
        await applier._spool.append([b"no event"])
        for number in range(20):
            assert await applier.submit([event(number)], 10) == [Applied(True, number + 1)]
        await until(lambda: applier._spool.pending == 0)
        store.crash(10**6)
        store.trouble = iter(["timeout", *[None] * 100_000]).__next__
        await until(lambda: store.state["applied"][-1:] == ["e19"])
        assert await applier.submit([event(99)], 10) is not None
