"""The command line of ``python -m loadtest``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from loadtest.options import (
    LoadOptions,
    PayloadRecipe,
    Schedule,
    Thresholds,
    default_vus,
    parse_cores,
    parse_extra_fields,
    parse_id_column,
    parse_length,
)

_DESCRIPTION = """\
Put POST /rank under open-loop load: requests are due at a constant rate and never wait for answers. Latency counts from the
moment a request was due. Writes result.json, report.md and latency.png."""
_EPILOG = """\
exit codes: 0 good; 1 a threshold was missed, or an answer was wrong; 2 the run could not be made; 3 the run is invalid
(dropped arrivals, arrivals without a record, or not one answer)"""


def parse_options(arguments: Sequence[str]) -> LoadOptions:
    """Options from the command line.

    Raises:
        OptionRefusedError: an option that makes no sense.
        SystemExit: what argparse refuses itself, or ``--help``.
    """
    given = _parser().parse_args(arguments)
    schedule = Schedule(given.rate, parse_length(given.warmup), parse_length(given.duration))
    return LoadOptions(
        url=given.url,
        allow_remote=given.allow_remote,
        users=parse_id_column(given.users),
        items=parse_id_column(given.items),
        recipe=_recipe(given, schedule),
        schedule=schedule,
        thresholds=Thresholds(given.max_p99_ms, given.max_error_share, given.max_degraded_share),
        out=given.out or Path("var/loadtest") / datetime.now(UTC).strftime("%Y%m%d-%H%M%S"),
        timeout_s=parse_length(given.timeout),
        vus_max=default_vus(given.rate) if given.vus_max is None else given.vus_max,
        inspect_every=given.inspect_every,
        pin=None if given.pin is None else parse_cores(given.pin),
        server_pid=given.server_pid,
        keep_raw=given.keep_raw,
    )


def _recipe(given: argparse.Namespace, schedule: Schedule) -> PayloadRecipe:
    return PayloadRecipe(
        count=min(given.payloads, schedule.first + schedule.count),
        candidates_min=given.candidates,
        candidates_max=given.candidates if given.candidates_max is None else given.candidates_max,
        top_k=given.top_k,
        seed=given.seed,
        user_skew=given.user_skew,
        unknown_users=given.unknown_users,
        unknown_items=given.unknown_items,
        extra_fields=parse_extra_fields(given.extra_fields),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_load(parser.add_argument_group("load"))
    _add_payloads(parser.add_argument_group("payloads"))
    _add_generator(parser.add_argument_group("generator and report"))
    _add_thresholds(parser.add_argument_group("thresholds"))
    return parser


def _add_load(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--url", required=True, help="the service, such as http://127.0.0.1:8000")
    group.add_argument("--allow-remote", action="store_true", help="allow a host other than this machine")
    group.add_argument("--rate", type=int, default=100, metavar="N", help="requests per second (default 100)")
    group.add_argument("--duration", default="20s", metavar="LENGTH", help="measured time, such as 20s or 2m (default 20s)")
    group.add_argument("--warmup", default="5s", metavar="LENGTH", help="time before it at the same rate (default 5s)")
    group.add_argument("--timeout", default="5s", metavar="LENGTH", help="give up on an answer after this (default 5s)")


def _add_payloads(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--users", required=True, metavar="FILE:COLUMN", help="user ids: a column of a CSV or Parquet table")
    group.add_argument("--items", required=True, metavar="FILE:COLUMN", help="candidate ids")
    group.add_argument("--candidates", type=int, default=100, metavar="N", help="candidates per request (default 100)")
    group.add_argument("--candidates-max", type=int, metavar="N", help="draw their number between --candidates and this")
    group.add_argument("--top-k", type=int, metavar="N", help="ask for this many items (default: not asked)")
    group.add_argument("--payloads", type=int, default=1000, metavar="N", help="different bodies, sent in turn (default 1000)")
    group.add_argument("--seed", type=int, default=7, metavar="N", help="what the bodies are drawn from (default 7)")
    group.add_argument("--user-skew", type=float, default=1.0, metavar="S", help="Zipf exponent, 0 is uniform (default 1)")
    group.add_argument("--unknown-users", type=float, default=0.0, metavar="SHARE", help="users in no table (default 0)")
    group.add_argument("--unknown-items", type=float, default=0.0, metavar="SHARE", help="candidates in no table (default 0)")
    group.add_argument("--extra-fields", default="{}", metavar="JSON", help="an object merged into each request")


def _add_generator(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--out", type=Path, metavar="DIR", help="where to write (default var/loadtest/<time>)")
    group.add_argument("--vus-max", type=int, metavar="N", help="requests that may be under way at once (default: --rate)")
    group.add_argument("--inspect-every", type=int, default=10, metavar="N", help="read one answer in N (default 10)")
    group.add_argument("--pin", metavar="CORES", help="cores that k6 may use, such as 0 or 2-3 (default: all)")
    group.add_argument("--server-pid", type=int, metavar="PID", help="account the processor time of this process tree")
    group.add_argument("--keep-raw", action="store_true", help="keep k6's samples (samples.csv, about 1 KB per request)")


def _add_thresholds(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--max-p99-ms", type=float, metavar="MS", help="of answers with status 200, and of all arrivals")
    group.add_argument("--max-error-share", type=float, metavar="SHARE", help="arrivals without an answer of status 200")
    group.add_argument("--max-degraded-share", type=float, metavar="SHARE", help="of the answers that were read")
