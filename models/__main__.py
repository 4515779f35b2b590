"""``python -m models COMMAND``: thin argparse over ``models.commands``; only the chosen command's module is imported."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Command:
    """Where a subcommand lives (``add_arguments(parser)`` and ``run(args) -> int``) and what it does, in a line."""

    module: str
    summary: str


COMMANDS = {
    "validate-data": Command("models.commands.validate_data", "check a feature-view YAML and its three tables"),
    "convert": Command("models.commands.convert", "turn MovieLens-1M or 100k into three tables and their YAML"),
    "simulate": Command("models.commands.simulate", "make a seeded data set whose true probabilities are known"),
    "train": Command("models.commands.train", "train a network on point-in-time rows"),
    "export": Command("models.commands.export", "export a trained run to ONNX, prove parity, publish a version"),
    "bench-world": Command("models.commands.bench_world", "make the benchmark's data and textbook models, without training"),
    "skew-live": Command("models.commands.skew_live", "make live traffic, export its log, compare what was served with torch"),
    "skew": Command("models.commands.skew", "replay held-out rows through the service and compare with torch"),
}


def build_parser(chosen: str | None) -> argparse.ArgumentParser:
    """The parser of all commands; only the ``chosen`` one's arguments are known, so that the others load nothing."""
    parser = argparse.ArgumentParser(
        prog="python -m models", description="Data, training and export, from the repository root."
    )
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=command.summary, description=command.summary)
        if name == chosen:
            importlib.import_module(command.module).add_arguments(subparser)
    return parser


def main(argv: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    chosen = argv[0] if argv and argv[0] in COMMANDS else None
    args = build_parser(chosen).parse_args(argv)
    code: int = importlib.import_module(COMMANDS[args.command].module).run(args)
    return code


def _run_as_program() -> int:
    """``main``, ended quietly by Ctrl-C or by a reader such as ``head`` that has seen enough."""
    try:
        code = main(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:
        # What is still buffered must not raise again when the interpreter closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130
    return code


if __name__ == "__main__":
    sys.exit(_run_as_program())
