"""What the process counts beside answering: lookups of the item cache, and apart from them what became of its items."""

import asyncio
import contextlib
import gc
from dataclasses import dataclass, field
from types import SimpleNamespace

from service.background import collecting_rarely, count_items
from service.telemetry import Telemetry


@dataclass
class Counting:
    counts: SimpleNamespace = field(default_factory=SimpleNamespace)


async def test_lookups_and_changes_of_the_item_cache_are_counted_apart_and_once():
    cache = Counting(SimpleNamespace(hits=5, misses=2, evictions=3, held=7, unknown=1, refreshed=4))
    refresher, telemetry = Counting(SimpleNamespace(gaps=1)), Telemetry()
    task = asyncio.create_task(count_items(cache, refresher, telemetry, every_s=0.0))
    for _ in range(3):
        await asyncio.sleep(0)
    cache.counts.hits, cache.counts.refreshed = 6, 9
    for _ in range(3):
        await asyncio.sleep(0)
    task.cancel()
    shown = [line for line in telemetry.render().decode().splitlines() if line.startswith("rankline_item_cache")]
    assert sorted(shown) == [
        'rankline_item_cache_changes_total{what="evicted"} 3.0',
        'rankline_item_cache_changes_total{what="gap"} 1.0',
        'rankline_item_cache_changes_total{what="refreshed"} 9.0',
        'rankline_item_cache_items{kind="known"} 7.0',
        'rankline_item_cache_items{kind="unknown"} 1.0',
        'rankline_item_cache_lookups_total{outcome="hit"} 6.0',
        'rankline_item_cache_lookups_total{outcome="miss"} 2.0',
    ]


async def test_what_the_hot_path_counted_is_carried_into_the_metrics_and_once_more_at_the_end():
    counts = SimpleNamespace(hits=0, misses=0, evictions=0, held=0, unknown=0, refreshed=0)
    telemetry = Telemetry()

    def shown():
        (metric,) = telemetry.requests.collect()
        return sum(sample.value for sample in metric.samples)

    telemetry.requested("/rank", "POST", 200, 0.1)
    assert shown() == 0
    task = asyncio.create_task(count_items(Counting(counts), Counting(SimpleNamespace(gaps=0)), telemetry, every_s=0.0))
    for _ in range(3):
        await asyncio.sleep(0)
    assert shown() == 1
    telemetry.requested("/rank", "POST", 200, 0.1)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert shown() == 2


def test_the_collector_leaves_out_what_was_there_and_is_then_as_it_was():
    before, frozen = gc.get_threshold(), gc.get_freeze_count()
    with collecting_rarely():
        assert gc.get_threshold() > before
        assert gc.get_freeze_count() > frozen
    assert (gc.get_threshold(), gc.get_freeze_count()) == (before, 0)
