"""``python -m loadtest``: one open-loop load run against a running service; ``python -m loadtest chaos``: faults on purpose."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType

from loadtest.command_line import parse_options
from loadtest.errors import LoadTestError
from loadtest.options import LoadOptions
from loadtest.report import summary
from loadtest.run import run_load
from loadtest.verdict import EXIT_REFUSED


def main(arguments: Sequence[str]) -> int:
    """Make the run; returns the exit code."""
    if arguments[:1] == ["chaos"]:
        from loadtest.chaos.command_line import main as chaos

        return chaos(arguments[1:])
    try:
        options = parse_options(arguments)
        print(_plan(options), flush=True)
        result = run_load(options, shlex.join(["python", "-m", "loadtest", *arguments]), _progress(options))
    except LoadTestError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_REFUSED
    print(summary(result))
    print(f"report      {options.out / 'report.md'}")
    return result.verdict.exit_code


def _plan(options: LoadOptions) -> str:
    schedule = options.schedule
    return (
        f"{schedule.rate_per_s} requests/s to {options.url}: {schedule.warmup_s:g} s of warm-up, then {schedule.count} requests"
        f" in {schedule.duration_s:g} s"
    )


def _progress(options: LoadOptions) -> Callable[[float], None]:
    """A running second counter on a terminal, nothing elsewhere."""
    whole_s = options.schedule.total_s

    def show(passed_s: float) -> None:
        print(f"{min(passed_s, whole_s):5.0f} of {whole_s:.0f} s", end="\r", file=sys.stderr, flush=True)

    return show if sys.stderr.isatty() else lambda _: None


def _end(signum: int, _frame: FrameType | None) -> None:
    # An exception, so that k6 is stopped on the way out.
    sys.exit(128 + signum)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, _end)
    sys.exit(main(sys.argv[1:]))
