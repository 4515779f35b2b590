"""Live events on one server, behind sentinels and on a cluster: acknowledged ones outlive whatever the servers lose."""

import asyncio
import contextlib
import os
import signal

import pytest

from feature_store.errors import StoreRewoundError, StoreUnavailableError
from feature_store.events.applier import ApplierRule, EventApplier
from feature_store.events.ports import SpoolMark, Standing
from feature_store.events.spool import Spool
from feature_store.records import history_record
from feature_store.redis.event_log import EventLogReader
from feature_store.redis.script_runs import ClusterScripts
from feature_store.redis.writer import RedisWriter
from tests.feature_store.redis.event_data import KEYS, apply, click
from tests.feature_store.redis.event_path import USERS, counted, events_at, histories, in_all_histories, opened, the_whole_path

OUT = {"timeout", "refused", "disconnected", "cluster_down", "readonly", "loading", "unknown"}
FAST = ApplierRule(batch_records=20, check_s=0.1, first_pause_s=0.01, longest_pause_s=0.1)


async def test_the_whole_path_on_one_server(any_server):
    await the_whole_path(any_server.url)


async def test_the_whole_path_on_a_cluster(any_cluster):
    await the_whole_path(any_cluster.url)


@contextlib.asynccontextmanager
async def applying(directory, store, told=None):
    spool = await Spool.open(directory)
    applier = EventApplier(spool, store, told or Told(), FAST)
    task = asyncio.create_task(applier.run())
    try:
        yield applier
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await spool.close()


class Told:
    def __init__(self):
        self.rewound, self.failed = 0, []

    def batch_applied(self, events, fresh):
        pass

    def replay_began(self):
        self.rewound += 1

    def try_failed(self, reason):
        self.failed.append(reason)

    def events_lost(self, count):
        pass

    def record_rejected(self):
        pass


def wave(number):
    """An event of every user."""
    return [click(f"i{number}", number, user=user) for user in USERS]


async def until(condition, seconds=30):
    async with asyncio.timeout(seconds):
        while True:
            with contextlib.suppress(StoreUnavailableError):
                if await condition():
                    return
            await asyncio.sleep(0.05)


async def logged(url):
    async with opened(EventLogReader.from_url(url)) as log:
        return [entry.logged.event.event_id for entry in (await log.read_all()).entries]


@pytest.mark.slow
async def test_events_before_during_and_after_a_failover_to_a_replica_that_is_behind_are_all_applied_once(
    any_sentinels, tmp_path
):
    await the_whole_path(any_sentinels.url)
    master, replica = any_sentinels.servers
    with master.client() as client:
        client.flushall()
    told, sent = Told(), []
    async with events_at(any_sentinels.url, length=50) as store, applying(tmp_path / "spool", store, told) as applier:
        sent += wave(0)
        assert await applier.submit(wave_of(sent, 0), 10) is not None
        with master.client() as client:
            assert await asyncio.to_thread(client.wait, 1, 10_000) == 1
        os.kill(replica.pid, signal.SIGSTOP)
        with master.client() as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "replica")  # what comes now, it will not hear of
        for number in (1, 2):
            sent += wave(number)
            assert await applier.submit(wave_of(sent, number), 10) is not None
        master.kill()
        os.kill(replica.pid, signal.SIGCONT)
        sent += wave(3)
        assert await applier.submit(wave_of(sent, 3), 0.01) is None
        await until(lambda: is_master(replica))
        sent += wave(4)
        await applier.submit(wave_of(sent, 4), 10)
        await until(lambda: in_all_histories(any_sentinels.url, [f"i{number}" for number in range(5)]))
        assert applier.backlog == 0
        assert sorted(await logged(any_sentinels.url)) == sorted(event.event_id for event in sent)
        assert await counted(any_sentinels.url, KEYS.item_counters("i2"), "i2") == len(USERS)
        assert {each.version for each in (await histories(any_sentinels.url)).values()} == {5}
    assert told.rewound >= 1
    assert set(told.failed) <= OUT


def wave_of(sent, number):
    return sent[number * len(USERS) : (number + 1) * len(USERS)]


async def is_master(server):
    with server.client() as client:
        return client.info("replication")["role"] == "master"


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1, 2])
async def test_a_clusters_master_that_comes_back_empty_gets_every_spools_events_again(any_cluster, tmp_path, lost):
    told = Told(), Told()
    async with (
        events_at(any_cluster.url, length=50) as store,
        applying(tmp_path / "own", store, told[0]) as own,
        applying(tmp_path / "adopted", store, told[1]) as adopted,
    ):
        sent = [wave(number) for number in range(5)]
        for number in range(3):
            assert await (own, adopted)[number % 2].submit(sent[number], 10) is not None
        any_cluster.nodes[lost].kill()
        await own.submit(sent[3], 0.01)
        await until_failing(told[0])
        any_cluster.nodes[lost].start()
        await own.submit(sent[4], 10)
        await until(lambda: in_all_histories(any_cluster.url, [f"i{number}" for number in range(5)]))
        assert set(await logged(any_cluster.url)) == {event.event_id for events in sent for event in events}
        async with asyncio.timeout(20):
            while own.backlog or adopted.backlog:  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.05)
        assert await counted(any_cluster.url, KEYS.user_counters("u3"), "u3") == 5
    assert set(told[0].failed) | set(told[1].failed) <= OUT


async def until_failing(told):
    async with asyncio.timeout(20):
        while not told.failed:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1, 2])
async def test_what_a_clusters_master_lost_while_no_process_ran_is_applied_by_the_next(any_cluster, tmp_path, lost):
    async with events_at(any_cluster.url) as store, applying(tmp_path / "spool", store) as applier:
        assert await applier.submit(wave(0), 10) is not None
    any_cluster.nodes[lost].kill()
    any_cluster.nodes[lost].start()
    async with events_at(any_cluster.url) as store, applying(tmp_path / "spool", store):
        await until(lambda: in_all_histories(any_cluster.url, ["i0"]))


async def test_a_clusters_frozen_node_is_a_timeout_and_the_same_store_applies_again_after_it(any_cluster):
    async with events_at(any_cluster.url, timeout_s=0.3) as store:
        await apply(store, wave(0))
        os.kill(any_cluster.nodes[1].pid, signal.SIGSTOP)
        try:
            async with asyncio.timeout(10):
                with pytest.raises(StoreUnavailableError) as error:
                    await store.apply(wave(1), SpoolMark("s", len(USERS), 2 * len(USERS)))
        finally:
            os.kill(any_cluster.nodes[1].pid, signal.SIGCONT)
        assert error.value.reason in OUT
        assert error.value.reason != "unknown"
        last = wave(2)
        await until(lambda: applied(store, last))
        assert {each.items[-1] for each in (await histories(any_cluster.url)).values()} == {"i2"}


async def applied(store, events):
    try:
        return await apply(store, events)
    except StoreRewoundError:
        return False


@pytest.mark.slow
async def test_a_merge_follows_its_retries_while_a_clusters_node_is_away(any_cluster):
    async with opened(RedisWriter.from_url(any_cluster.url, timeout_s=2.0, retries=40)) as writer:
        await writer.merge_histories([history_record("u0", ["a"], [1.0])], 5)
        any_cluster.nodes[1].kill()
        merging = asyncio.create_task(writer.merge_histories([history_record(user, ["b"], [2.0]) for user in USERS], 5))
        await asyncio.sleep(0.5)
        assert not merging.done()
        any_cluster.nodes[1].start()
        async with asyncio.timeout(30):
            await merging
        assert set(await histories(any_cluster.url)) == set(USERS)
    async with opened(RedisWriter.from_url(any_cluster.url, timeout_s=1.0, retries=0)) as writer:
        any_cluster.nodes[1].kill()
        try:
            with pytest.raises(StoreUnavailableError) as error:
                await writer.merge_histories([history_record(user, ["b"], [2.0]) for user in USERS], 5)
        finally:
            any_cluster.nodes[1].start()
        assert error.value.reason in OUT - {"unknown"}


async def test_a_clusters_changed_masters_are_told_apart_from_a_lost_mark(any_cluster, monkeypatch):
    """A restart or a failover gives a master another replication id: the number stands, and is one of other servers."""

    async def others(_):
        return b"0123456789abcdef"

    async with events_at(any_cluster.url) as store:
        await apply(store, wave(0))
        assert await store.applied_through("s") == Standing(len(USERS))
        monkeypatch.setattr(ClusterScripts, "_masters", others)
        assert await store.applied_through("s") == Standing(len(USERS), servers_changed=True)
        with pytest.raises(StoreRewoundError) as error:
            await store.apply(wave(1), SpoolMark("s", len(USERS), 2 * len(USERS)))
        assert (error.value.applied_through, error.value.servers_changed) == (len(USERS), True)
        await store.apply(wave(1), SpoolMark("s", None, 9, start=5))
        assert await store.applied_through("s") == Standing(9)
        assert await store.applied_through("never") == Standing(None)
