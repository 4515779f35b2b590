"""The online feature store: ``python -m feature_store COMMAND``."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

COMMANDS = {
    "materialize": (
        "feature_store.commands.materialize",
        "write users, items and histories of the tables into the store; running again is safe",
    ),
    "export-events": ("feature_store.commands.export_events", "write the log of live events as training tables"),
    "inspect": ("feature_store.commands.inspect", "show what the store holds of a user, as the ranker would see it"),
    "bench": ("feature_store.commands.bench", "measure reads and writes on a server of its own, beside the plain ways"),
    "memory": ("feature_store.commands.memory", "measure what users, items and histories cost in memory"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and run the command; only the chosen one's module is imported."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    chosen = next((each for each in given if each in COMMANDS), None)
    parser = argparse.ArgumentParser(prog="python -m feature_store", description=__doc__)
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (module, text) in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=text, description=text)
        if name == chosen:
            importlib.import_module(module).add_arguments(subparser)
    options = parser.parse_args(given)
    code: int = importlib.import_module(COMMANDS[options.command][0]).run(options)
    return code


if __name__ == "__main__":
    sys.exit(main())
