"""``python -m loadtest chaos``: one scenario, its result as JSON and in words; exit code 1 if its claim does not hold."""

from __future__ import annotations

import argparse
import random
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from loadtest.chaos.control import wrong_user_control
from loadtest.chaos.event_order import event_order
from loadtest.chaos.frozen_store import Freezes, frozen_store
from loadtest.chaos.lost_events import Losses, lost_events
from loadtest.chaos.one_user import one_user
from loadtest.chaos.outcome import Outcome, Run
from loadtest.chaos.own_histories import OwnHistories
from loadtest.chaos.rude_clients import Crowd
from loadtest.chaos.store_server import Persistence
from loadtest.chaos.wrong_user import wrong_user
from loadtest.errors import LoadTestError
from loadtest.verdict import EXIT_REFUSED

_MOST = 10_000_000
_FROZEN_USERS = 200
_PERSISTENCE: dict[str, Persistence] = {"no": "snapshot", "yes": "log"}
CONTROL_PYTHON = Path("var/control-venv/bin/python")


def main(arguments: Sequence[str]) -> int:
    """Run one scenario; returns 0 if its claim holds, 1 if not, 2 if it could not be run."""
    given = _parser().parse_args(arguments)
    seed = random.SystemRandom().randrange(1 << 31) if given.seed is None else given.seed
    print(f"{given.scenario}, seed {seed}", flush=True)  # noqa: T201
    command = shlex.join(["python", "-m", "loadtest", "chaos", *arguments])
    try:
        outcome = _run(given, Run(given.workspace, seed, command))
    except LoadTestError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return EXIT_REFUSED
    print(outcome.summary())  # noqa: T201
    print(f"  result   {outcome.write(given.out)}")  # noqa: T201
    return outcome.exit_code


def _run(given: argparse.Namespace, run: Run) -> Outcome:
    if given.scenario in ("wrong-user", "wrong-user-control"):
        users = OwnHistories(given.users)
        crowd = Crowd(given.answers, given.connections, given.disconnect_share, given.max_s)
        if given.scenario == "wrong-user":
            return wrong_user(run, users, crowd)
        return wrong_user_control(run, given.python, users, crowd)
    if given.scenario == "frozen-store":
        freezes = Freezes(given.times, given.freeze_s, given.rate, given.timeout_ms)
        return frozen_store(run, OwnHistories(_FROZEN_USERS), freezes)
    if given.scenario == "lost-events":
        losses = Losses(given.events, given.service_kills, given.store_kills, given.users, _PERSISTENCE[given.appendonly])
        return lost_events(run, losses)
    if given.scenario == "event-order":
        return event_order(run, given.users)
    return one_user(run, given.events, given.max_user_bytes)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m loadtest chaos", description=__doc__, allow_abbrev=False)
    scenarios = parser.add_subparsers(dest="scenario", required=True, metavar="SCENARIO")
    _add_answers(
        _scenario(scenarios, "wrong-user", "no answer carries another user's data while connections die, clients leave")
    )
    control = _scenario(scenarios, "wrong-user-control", "the same on a server that leaks; holds only if the harness sees it")
    _add_answers(control)
    control.add_argument("--python", type=Path, default=CONTROL_PYTHON, help=f"with redis-py 4.5.3 (default {CONTROL_PYTHON})")
    frozen = _scenario(scenarios, "frozen-store", "the store stands still under load, and goes on")
    _count(frozen, "--times", 3, "freezes")
    frozen.add_argument("--freeze-s", type=float, default=5.0, help="seconds of each (default 5)")
    frozen.add_argument("--rate", type=float, default=50.0, help="requests per second (default 50)")
    _count(frozen, "--timeout-ms", 100, "each request's deadline")
    lost = _scenario(scenarios, "lost-events", "acknowledged events through kills of the service and the store")
    _count(lost, "--events", 5_000, "events to send")
    lost.add_argument("--service-kills", type=int, default=3, choices=range(1_001), metavar="N", help="(default 3)")
    lost.add_argument("--store-kills", type=int, default=2, choices=range(1_001), metavar="N", help="(default 2)")
    _count(lost, "--users", 500, "users")
    lost.add_argument("--appendonly", choices=("no", "yes"), default="no", help="the store's persistence (default no)")
    _count(_scenario(scenarios, "event-order", "histories against an oracle, with shuffled arrival"), "--users", 500, "users")
    single = _scenario(scenarios, "one-user", "very many events of one user")
    _count(single, "--events", 20_000, "events to send")
    _count(single, "--max-user-bytes", 1_048_576, "what the user's keys may take")
    return parser


def _add_answers(scenario: argparse.ArgumentParser) -> None:
    _count(scenario, "--answers", 20_000, "answers to check")
    _count(scenario, "--users", 1_000, "users, each with a history of its own")
    _count(scenario, "--connections", 32, "clients at once")
    scenario.add_argument("--disconnect-share", type=float, default=0.3, help="requests walked away from (default 0.3)")
    scenario.add_argument("--max-s", type=float, default=7_200.0, help="give up after this long")


def _scenario(scenarios: argparse._SubParsersAction[argparse.ArgumentParser], name: str, text: str) -> argparse.ArgumentParser:
    scenario = scenarios.add_parser(name, help=text, description=text, allow_abbrev=False)
    scenario.add_argument("--workspace", type=Path, default=Path("var/simulated"), help="what make demo made; only read")
    scenario.add_argument("--seed", type=int, help="what everything random is drawn from (default: a new one, printed)")
    scenario.add_argument("--out", type=Path, default=Path("var/chaos"), help="folder of the results (default var/chaos)")
    return scenario


def _count(scenario: argparse.ArgumentParser, option: str, default: int, text: str) -> None:
    scenario.add_argument(option, type=_bounded, default=default, metavar="N", help=f"{text} (default {default:,})")


def _bounded(text: str) -> int:
    value = int(text)
    if not 1 <= value <= _MOST:
        raise argparse.ArgumentTypeError(f"must be 1 to {_MOST:,}")
    return value
