"""Reads at one time: all are made, whatever the concurrency, and ours share exchanges."""

import pytest

from feature_store.benchmarks.concurrent_reads import (
    REQUESTS,
    USERS_GETS,
    USERS_MGET,
    USERS_READ,
    concurrent_lines,
    measure_concurrent,
)
from feature_store.benchmarks.made_items import MadeItems
from feature_store.benchmarks.read_stage import ReadStage


@pytest.fixture
async def stage(valkey_url):
    async with ReadStage(valkey_url, MadeItems.of(5, 4), 4) as stage:
        await stage.write()
        yield stage


async def test_every_way_is_measured_at_every_concurrency_and_reported(stage, valkey_url, valkey):
    valkey.config_resetstat()
    times = await measure_concurrent(stage, valkey_url, (1, 32), 1)
    assert {count: set(each) for count, each in times.items()} == {
        count: {USERS_READ, USERS_MGET, USERS_GETS} for count in (1, 32)
    }
    commands = valkey.info("commandstats")
    assert commands["cmdstat_mget"]["calls"] == 2 * 2 * REQUESTS  # each concurrency, a warm-up round and one that counts
    assert commands["cmdstat_get"]["calls"] == 2 * 2 * 2 * 2 * REQUESTS
    assert "32 at a time" in "\n".join(concurrent_lines(times))
