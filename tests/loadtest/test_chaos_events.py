"""The books of events: each way to lose, repeat or misplace an event is found; the senders claim no more than was said."""

import dataclasses
import hashlib
import json
import random
from collections import Counter
from itertools import chain, pairwise

import msgspec
import pytest

from loadtest.chaos.event_audit import Found, FoundHistory, LogEntry, balance
from loadtest.chaos.event_books import memory_of_user, read_books, read_history
from loadtest.chaos.event_sender import EventSenders, SenderRule
from loadtest.chaos.lost_events import Executioner, Losses, kill_plan
from loadtest.chaos.made_events import Ledger, MadeEvent, one_users_batches, random_batches, shuffled_histories
from loadtest.chaos.settling import pending_records
from loadtest.chaos.store_server import StoreServer
from tests.loadtest.fake_service import answering

LENGTH = 6


@pytest.fixture(scope="module")
def store_server(tmp_path_factory):
    with StoreServer(tmp_path_factory.mktemp("books") / "store") as store:
        yield store


@pytest.fixture
def valkey(store_server):
    with store_server.client() as client:
        client.flushall()
        yield client


def applied(events) -> Found:
    """What a sound store holds after these events, one after the other: worked out another way than the audit does."""
    log, histories, counts, item_counts = [], {}, {}, {}
    for number, event in enumerate(events, start=1):
        version, kept = histories.get(event.user_id, (0, []))
        entered = event.type == "click" and (len(kept) < LENGTH or event.time > kept[0][0])
        if entered:
            kept = sorted([*kept, (event.time, event.item_id)])[-LENGTH:]
            version += 1
            histories[event.user_id] = (version, kept)
        counts.setdefault(event.user_id, Counter())[event.type] += 1
        item_counts.setdefault(event.item_id, Counter())[event.type] += 1
        log.append(LogEntry(number, event, version, entered))
    found = {
        user: FoundHistory(version, [i for _, i in kept], [t for t, _ in kept]) for user, (version, kept) in histories.items()
    }
    return Found(log, found, counts, item_counts)


@pytest.fixture
def events() -> list[MadeEvent]:
    return list(chain.from_iterable(random_batches(400, users=12, seed=3)))


@pytest.fixture
def ledger(events) -> Ledger:
    return Ledger({event.event_id: event for event in events}, {event.event_id for event in events})


def breaches(ledger, found) -> set[str]:
    return {text.partition(":")[0] for text in balance(ledger, found, LENGTH).breaches}


def test_sound_books_balance(events, ledger):
    books = balance(ledger, applied(events), LENGTH)
    assert books.breaches == []
    assert books.figures["acknowledged"] == books.figures["in_the_log"] == 400


def test_an_unacknowledged_event_may_be_there_or_not(events, ledger):
    ledger.acknowledged.discard(events[5].event_id)
    assert breaches(ledger, applied(events)) == set()
    assert breaches(ledger, applied(events[:5] + events[6:])) == set()
    assert balance(ledger, applied(events), LENGTH).figures["applied_though_unacknowledged"] == 1


def test_a_lost_event_is_found(events, ledger):
    assert breaches(ledger, applied(events[:5] + events[6:])) == {"lost"}


def test_an_event_applied_twice_is_found_acknowledged_or_not(events, ledger):
    twice = [*events, dataclasses.replace(events[5])]
    assert "twice" in breaches(ledger, applied(twice))
    ledger.acknowledged.discard(events[5].event_id)
    assert "twice" in breaches(ledger, applied(twice))


def test_a_strange_or_altered_event_is_found(events, ledger):
    stranger = MadeEvent("stranger", "eu-1", "i", "view", 1.0)
    assert breaches(ledger, applied([*events, stranger])) == {"never_sent"}
    assert "altered" in breaches(ledger, applied([dataclasses.replace(events[0], item_id="other"), *events[1:]]))


def user_with_history(found) -> str:
    return next(user for user, history in found.histories.items() if len(history.items) == LENGTH)


def test_a_history_out_of_order_short_or_gone_is_found(events, ledger):
    found = applied(events)
    user = user_with_history(found)
    history = found.histories[user]
    for bad in (
        dataclasses.replace(history, items=history.items[1::-1] + history.items[2:]),
        dataclasses.replace(history, items=history.items[1:], times=history.times[1:]),
        dataclasses.replace(history, times=[history.times[0] - 1, *history.times[1:]]),
    ):
        assert breaches(ledger, dataclasses.replace(found, histories={**found.histories, user: bad})) == {"histories_wrong"}
    gone = {name: each for name, each in found.histories.items() if name != user}
    assert breaches(ledger, dataclasses.replace(found, histories=gone)) == {"histories_wrong", "versions_wrong"}


def test_a_version_or_a_counter_that_is_off_by_one_is_found(events, ledger):
    found = applied(events)
    user = user_with_history(found)
    ahead = dataclasses.replace(found.histories[user], version=found.histories[user].version + 1)
    assert breaches(ledger, dataclasses.replace(found, histories={**found.histories, user: ahead})) == {"versions_wrong"}
    counted = {**found.counts, user: {**found.counts[user], "view": found.counts[user]["view"] + 1}}
    assert breaches(ledger, dataclasses.replace(found, counts=counted)) == {"counters_wrong"}


def test_an_item_counted_once_more_once_less_or_for_no_event_is_found(events, ledger):
    found = applied(events)
    item, counts = next(iter(found.item_counts.items()))
    kind = next(iter(counts))
    for bad in (
        {item: {**counts, kind: counts[kind] + 1}},
        {item: {**counts, kind: counts[kind] - 1}},
        {"ei-new": {"view": 1}},
    ):
        meddled = dataclasses.replace(found, item_counts={**found.item_counts, **bad})
        assert breaches(ledger, meddled) == {"item_counters_wrong"}
    gone = {each: of_it for each, of_it in found.item_counts.items() if each != item}
    assert breaches(ledger, dataclasses.replace(found, item_counts=gone)) == {"item_counters_wrong"}


def test_made_events_decide_every_order(events):
    assert len({event.event_id for event in events}) == 400
    assert len({(event.user_id, event.time) for event in events}) == 400
    arrived = list(chain.from_iterable(shuffled_histories(30, (5, 80), seed=1)))
    assert len({(event.user_id, event.time) for event in arrived}) == len(arrived)
    assert any(earlier.time > later.time for earlier, later in pairwise(arrived))
    single = list(chain.from_iterable(one_users_batches(2_500, 1_000, seed=1)))
    assert len({event.time for event in single}) == len(single) == 2_500


class FakeStore:
    """``POST /events`` over a list, with the faults that a test asks for."""

    def __init__(self, *, forgets=(), repeats=False, fails=0.0, refuses=()) -> None:
        self.events: list[MadeEvent] = []
        self.rng = random.Random(1)
        self.forgets, self.repeats, self.fails, self.refuses = forgets, repeats, fails, refuses
        self.known: set[str] = set()

    def __call__(self, path, body):
        assert path == "/events"
        before, after = self.rng.random() < self.fails / 2, self.rng.random() < self.fails / 2
        if before:
            return self.rng.choice([(503, b"{}"), None])
        batch = [MadeEvent(**each) for each in json.loads(body)["events"]]
        for event in batch:
            if (self.repeats or event.event_id not in self.known) and event.event_id not in self.forgets:
                self.known.add(event.event_id)
                self.events.append(event)
        if after:
            return None
        refused = [{"index": 0, "errors": []} for event in batch if event.event_id in self.refuses]
        return self.rng.choice([200, 202]), json.dumps({"accepted": len(batch) - len(refused), "refused": refused}).encode()


async def sent_to(store, **rule):
    rule = SenderRule(**{"clients": 4, "max_s": 30.0, **rule})
    async with answering(store) as port:
        senders = EventSenders(port, rule, seed=2)
        await senders.send_all(random_batches(600, users=10, seed=2))
    return senders


async def test_senders_retry_until_everything_is_acknowledged_once():
    store = FakeStore(fails=0.3)
    senders = await sent_to(store, drop_share=0.2, abandon_share=0.0)
    assert len(senders.ledger.acknowledged) == 600
    assert breaches(senders.ledger, applied(store.events)) == set()
    assert senders.tally.replies_dropped > 0
    assert senders.tally.failures.total() > 0
    assert not senders.tally.breaches


async def test_what_was_abandoned_is_not_claimed():
    store = FakeStore()
    senders = await sent_to(store, drop_share=0.5, abandon_share=0.5)
    assert senders.tally.batches_abandoned > 0
    assert len(senders.ledger.acknowledged) < len(senders.ledger.sent) == 600
    assert breaches(senders.ledger, applied(store.events)) == set()


async def test_a_store_that_forgets_or_repeats_is_red():
    forgetful, repeating = FakeStore(forgets=("e2-17",)), FakeStore(repeats=True, fails=0.3)
    senders = await sent_to(forgetful, drop_share=0.0)
    assert breaches(senders.ledger, applied(forgetful.events)) == {"lost"}
    senders = await sent_to(repeating)
    assert "twice" in breaches(senders.ledger, applied(repeating.events))


async def test_a_good_event_that_is_refused_is_a_breach_and_not_acknowledged():
    senders = await sent_to(FakeStore(refuses=("e2-17",)))
    assert any("refused" in breach for breach in senders.tally.breaches)
    assert "e2-17" not in senders.ledger.acknowledged


async def test_a_500_is_a_breach():
    store = FakeStore()
    first = [(500, b"{}")]
    senders = await sent_to(lambda path, body: first.pop() if first else store(path, body), drop_share=0.0)
    assert any("500" in breach for breach in senders.tally.breaches)
    assert len(senders.ledger.acknowledged) == 600


async def test_kills_are_done_as_the_run_comes_to_them():
    plan = kill_plan(Losses(events=1_000, service_kills=5, store_kills=3), seed=4)
    assert Counter(victim for _, victim in plan) == {"service": 5, "store": 3}
    assert plan == sorted(plan, key=lambda kill: kill[0])
    assert plan[-1][0] < 1_000
    killed = []
    executioner = Executioner(plan, killed.append)
    executioner.told(1_000)
    await executioner.run()
    assert killed == executioner.done == [victim for _, victim in plan]


def test_books_are_read_from_a_real_store(valkey):
    pack = msgspec.msgpack.encode
    event = [1, "e1", "eu-{1}", "i1", "click", 5, 7.5, None, None, None, {}]
    valkey.xadd("rankline:{events}:log", {"n": 1, "v": 1, "h": 1, "e": pack(event)})
    valkey.xadd("rankline:{events}:log", {"n": 2, "v": 1, "h": 0, "e": pack([1, "e2", "other", "x1", "view", 6, 7.5])})
    valkey.set("rankline:history:{eu-%7B1%7D}", pack([1, "eu-{1}", 1, 7.5, ["i1"], [5]]))
    valkey.set("rankline:history:{other}", pack([1, "other", 1, 7.5, ["i1"], [5]]))
    valkey.set("rankline:user-counters:{eu-%7B1%7D}", pack([1, "eu-{1}", [3600], {"click": [1, 5, 1.0]}]))
    for item in ("i1", "x1"):
        valkey.set(f"rankline:item-counters:{{{item}}}", pack([1, item, [3600], {"click": [1, 5, 1.0]}]))
    made = MadeEvent("e1", "eu-{1}", "i1", "click", 5.0)
    found = read_books(valkey, "eu-", "i")
    assert found.log == [LogEntry(1, made, 1, True)]
    assert found.histories == {"eu-{1}": FoundHistory(1, ["i1"], [5.0])}
    assert found.counts == {"eu-{1}": {"click": 1}}
    assert found.item_counts == {"i1": {"click": 1}}
    assert balance(Ledger({"e1": made}, {"e1"}), found, LENGTH).breaches == []
    assert read_history(valkey, "other") == FoundHistory(1, ["i1"], [5.0])
    assert set(memory_of_user(valkey, "other")) == {"history"}


def test_a_record_is_read_behind_its_seal_and_a_broken_one_is_no_history(valkey):
    record = msgspec.msgpack.encode([1, "eu-1", 2, 7.5, ["i1"], [5]])
    seal = hashlib.sha1(record, usedforsecurity=False).hexdigest()[:8].encode()
    for value in (record, seal + record):
        valkey.set("rankline:history:{eu-1}", value)
        assert read_history(valkey, "eu-1") == FoundHistory(2, ["i1"], [5.0])
    for value in (seal + record[:-1] + b"\x06", b"00000000" + record, b"x", b"", b"\xc1"):
        valkey.set("rankline:history:{eu-1}", value)
        assert read_books(valkey, "eu-", "ei-").histories == {"eu-1": FoundHistory(-1, [], [])}


def test_a_long_log_is_read_whole(valkey):
    for number in range(4_500):
        valkey.xadd(
            "rankline:{events}:log",
            {"n": number, "v": 1, "h": 0, "e": msgspec.msgpack.encode([1, f"e{number}", "u", "i", "view", 1])},
        )
    assert [entry.number for entry in read_books(valkey, "u", "i").log] == list(range(4_500))


def test_the_backlog_is_read_from_the_metrics():
    assert pending_records(b"# HELP x\nrankline_spool_pending_records 12.0\n") == 12
    assert pending_records(b'rankline_spool_pending_records{pid="1"} 2.0\nrankline_spool_pending_records{pid="2"} 3.0\n') == 5
    assert pending_records(b"rankline_other 1.0\n") is None
