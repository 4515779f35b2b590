"""What the write benchmark counts as written is in the store."""

import pytest

from feature_store.benchmarks import writes
from feature_store.benchmarks.made_events import HISTORY_LENGTH, VIEWS, made_events
from feature_store.benchmarks.writes import WritePlan, measure_writes
from feature_store.errors import BenchmarkError
from feature_store.events.ports import Applied
from feature_store.keys import KeySpace


async def test_every_event_that_is_counted_was_logged(valkey_url, valkey, tmp_path):
    plan = WritePlan(0.05, (1, 8), ((1, 2), (3, 1)))
    rates = await measure_writes(valkey_url, tmp_path, plan)
    assert list(rates.apply) == [
        f"{events} a step, {users}" for users in ("one user", "10,000 users") for events in ("1 event", "8 events")
    ]
    assert list(rates.spool) == list(rates.spool_and_apply) == ["1 caller, 2 events each", "3 callers, 1 event each"]
    counted = [*rates.apply.values(), *rates.spool_and_apply.values()]
    first_steps = 2 * (1 + 8) + 2 + 1  # not counted
    assert int(valkey.get(KeySpace().event_count)) == sum(rate.events for rate in counted) + first_steps
    assert all(rate.per_s > 0 and rate.per_core_s > 0 and rate.store_us > 0 for rate in counted)
    assert 0 < rates.fsync_ms.least <= rates.fsync_ms.median
    assert not (tmp_path / "fsync").exists()


async def test_events_that_were_not_applied_are_told(valkey_url, tmp_path, monkeypatch):
    async def forgetful(self, events, mark):
        return [Applied(False, 0) for _ in events]

    monkeypatch.setattr(writes.RedisEvents, "apply", forgetful)
    with pytest.raises(BenchmarkError, match="0 of 1 new events"):
        await measure_writes(valkey_url, tmp_path, WritePlan(0.01, (1,), ()))


def test_made_events_enter_the_history_and_have_ids_of_their_own():
    source = made_events(3, "seed")
    events = [next(source) for _ in range(500)]
    assert len({event.event_id for event in events}) == 500
    assert {event.user_id for event in events} == {"u0", "u1", "u2"}
    kind = VIEWS.events.type_named("click")
    assert VIEWS.history.takes(kind.row(None))
    assert VIEWS.history.length == HISTORY_LENGTH
