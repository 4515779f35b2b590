"""``wrong-user``: no fault shows one user another's data."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Any

from loadtest.chaos.faults import FaultCounts, FaultRule, StoreFaults
from loadtest.chaos.outcome import Outcome, Run, at_most
from loadtest.chaos.own_histories import OwnAnswers, OwnHistories
from loadtest.chaos.rude_clients import Crowd, Tally, crowd_of_rude_clients
from loadtest.chaos.service_process import ServiceProcess
from loadtest.chaos.stage import staged

READ_TIMEOUT_MS = 10
CANDIDATES = 3
_REQUEST_TIMEOUT_MS = 2_000
_LEAST_OWN_SHARE = 0.1
_FEW = 1_000


def wrong_user(run: Run, users: OwnHistories, crowd: Crowd) -> Outcome:
    """Run the scenario on a service and a store of its own."""
    with staged(run.workspace) as stage:
        stage.materialize(users)
        environment = stage.environment({"RANKLINE_STORE__READ_TIMEOUT_MS": str(READ_TIMEOUT_MS)})
        answers = OwnAnswers(users, stage.candidates[:CANDIDATES], _REQUEST_TIMEOUT_MS)
        with (
            ServiceProcess(environment, stage.directory / "service.log") as service,
            StoreFaults(stage.store, FaultRule(), run.seed) as faults,
        ):
            tally = asyncio.run(crowd_of_rude_clients(service.port, answers, crowd, run.seed))
    claim = "Every answer is the user's own, or degraded without a history; none is a 5xx."
    return Outcome(
        "wrong-user",
        run.command,
        run.seed,
        claim,
        figures_of(tally, faults.counts, users),
        breaches_of(tally, crowd, faults.counts),
    )


def figures_of(tally: Tally, faults: FaultCounts, users: OwnHistories) -> dict[str, Any]:
    """The figures of a run, of the service or of the control server."""
    wrong = tally.verdicts["wrong"]
    return {
        "answers_checked": tally.checked,
        "wrong": wrong,
        "wrong_rate_upper_95": at_most(tally.checked) if wrong == 0 else None,
        "server_errors_5xx": tally.verdicts["server_error"],
        "own_and_whole": tally.verdicts["own"],
        "degraded": tally.verdicts["degraded"],
        "degraded_share": tally.verdicts["degraded"] / max(1, tally.checked),
        "degraded_by_reason": dict(tally.degraded.most_common()),
        "refused_429": tally.verdicts["refused"],
        "disconnected": tally.disconnected.total(),
        "disconnected_when": dict(tally.disconnected.most_common()),
        "broken_by_the_service": dict(tally.broken.most_common(5)),
        "faults": asdict(faults),
        "users": users.count,
        "seconds": round(tally.seconds, 1),
        "answers_per_s": round(tally.checked / max(tally.seconds, 1e-9), 1),
        "examples": tally.wrong,
    }


def breaches_of(tally: Tally, crowd: Crowd, faults: FaultCounts) -> list[str]:
    """Why a run is red; too few answers, or hardly any with a history, prove nothing and are red as well."""
    own = tally.verdicts["own"]
    calm = not (faults.connections_killed and faults.pauses)
    found = [
        (tally.verdicts["wrong"], f"{tally.verdicts['wrong']} of {tally.checked} answers carried what is not the user's own"),
        (tally.verdicts["server_error"], f"{tally.verdicts['server_error']} answers were a 5xx"),
        (tally.verdicts["other"], f"{tally.verdicts['other']} answers had a status that no such request may get"),
        (tally.broken.total(), f"{tally.broken.total()} connections were ended or left without an answer by the service"),
        (tally.checked < crowd.answers, f"only {tally.checked} of {crowd.answers} answers came in {crowd.max_s:g} s"),
        (own < _LEAST_OWN_SHARE * tally.checked, f"only {own} of {tally.checked} answers had a history to check"),
        (calm and tally.checked >= _FEW, "the store was not meddled with"),
    ]
    return [text for happened, text in found if happened]
