"""``frozen-store``: while the store stands still every answer comes in time, and soon after it goes on all is whole again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from loadtest.chaos.open_loop import Arrival, OpenLoop, percentile
from loadtest.chaos.outcome import Outcome, Run
from loadtest.chaos.own_histories import OwnAnswers, OwnHistories
from loadtest.chaos.service_process import ServiceProcess
from loadtest.chaos.stage import staged
from loadtest.chaos.store_server import StoreServer

_CANDIDATES = 20
_CALM_S = 3.0
_WATCHED_S = 4.0


@dataclass(frozen=True, slots=True)
class Freezes:
    """``times`` freezes of ``freeze_s`` under ``rate_per_s``, each request with a deadline of ``timeout_ms``."""

    times: int
    freeze_s: float
    rate_per_s: float = 50.0
    timeout_ms: int = 100
    grace_ms: float = 10.0
    recovery_s: float = 2.0


@dataclass(frozen=True, slots=True)
class Frozen:
    """One freeze: latencies of the requests due in it, and when the last degraded one was due after its end."""

    answers: int
    degraded: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    recovered_after_s: float


def frozen_store(run: Run, users: OwnHistories, freezes: Freezes) -> Outcome:
    """Run the scenario on a service and a store of its own, with the service's own store timeouts."""
    with staged(run.workspace) as stage:
        stage.materialize(users)
        requests = OwnAnswers(users, stage.candidates[:_CANDIDATES], freezes.timeout_ms).requests
        with ServiceProcess(stage.environment(), stage.directory / "service.log") as service:
            load = OpenLoop(service.port, requests, freezes.rate_per_s, lambda body: b'"degraded":null' in body)
            moments = asyncio.run(_run(load, stage.store, freezes))
    return judged(run, load.arrivals, moments, freezes)


async def _run(load: OpenLoop, store: StoreServer, freezes: Freezes) -> list[tuple[float, float]]:
    """The start and end of each freeze."""
    moments = []
    async with asyncio.TaskGroup() as group:
        group.create_task(load.run())
        for _ in range(freezes.times):
            await asyncio.sleep(_CALM_S)
            started = time.monotonic()
            store.freeze()
            await asyncio.sleep(freezes.freeze_s)
            store.thaw()
            moments.append((started, time.monotonic()))
            await asyncio.sleep(_WATCHED_S)
        load.stop()
    return moments


def judged(run: Run, arrivals: Sequence[Arrival], moments: Sequence[tuple[float, float]], freezes: Freezes) -> Outcome:
    """The outcome, from every arrival and the start and end of each freeze."""
    each = [_frozen(arrivals, start, end) for start, end in moments]
    calm = [arrival.latency_ms for arrival in arrivals if not any(start <= arrival.due_s < end for start, end in moments)]
    server_errors = sum(arrival.status >= 500 for arrival in arrivals)
    other = sum(arrival.status != 200 for arrival in arrivals) - server_errors
    limit_ms = freezes.timeout_ms + freezes.grace_ms
    breaches = [f"{server_errors} answers were a 5xx"] if server_errors else []
    breaches += [f"{other} requests were refused or got no answer"] if other else []
    breaches += ["not every freeze was run"] if len(each) < freezes.times else []
    for place, frozen in enumerate(each, start=1):
        if not frozen.p99_ms <= limit_ms:
            breaches.append(f"freeze {place}: p99 {frozen.p99_ms:.1f} ms of {frozen.answers} answers, asked {limit_ms:g} ms")
        if not frozen.degraded:
            breaches.append(f"freeze {place}: no answer was degraded; the store was not frozen")
        if frozen.recovered_after_s > freezes.recovery_s:
            breaches.append(f"freeze {place}: still degraded {frozen.recovered_after_s:.2f} s after the store went on")
    figures = {
        "requests": len(arrivals),
        "server_errors_5xx": server_errors,
        "refused_or_unanswered": other,
        "rate_per_s": freezes.rate_per_s,
        "freeze_s": freezes.freeze_s,
        "deadline_ms": freezes.timeout_ms,
        "worst_p99_ms": max((frozen.p99_ms for frozen in each), default=None),
        "worst_recovery_s": max((frozen.recovered_after_s for frozen in each), default=None),
        "calm_p50_ms": round(percentile(calm, 0.5), 2),
        "calm_p99_ms": round(percentile(calm, 0.99), 2),
        "freezes": [asdict(frozen) for frozen in each],
    }
    claim = (
        f"Store frozen for {freezes.freeze_s:g} s, {freezes.times} times: no 5xx, p99 within {limit_ms:g} ms, "
        f"whole again within {freezes.recovery_s:g} s."
    )
    return Outcome("frozen-store", run.command, run.seed, claim, figures, breaches)


def _frozen(arrivals: Sequence[Arrival], start: float, end: float) -> Frozen:
    during = [arrival for arrival in arrivals if start <= arrival.due_s < end]
    after = [arrival.due_s - end for arrival in arrivals if end <= arrival.due_s < end + _WATCHED_S and not arrival.whole]
    latencies = [arrival.latency_ms for arrival in during]
    return Frozen(
        answers=len(during),
        degraded=sum(not arrival.whole for arrival in during),
        p50_ms=round(percentile(latencies, 0.5), 2),
        p99_ms=round(percentile(latencies, 0.99), 2),
        max_ms=round(max(latencies, default=float("nan")), 2),
        recovered_after_s=round(max(after, default=0.0), 3),
    )
