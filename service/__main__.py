"""``python -m service serve`` runs the service; ``python -m service plan check FILE`` checks an experiment plan."""

from __future__ import annotations

import argparse
import importlib
import sys

COMMANDS = {
    "serve": ("service.commands.serve", "run the service"),
    "plan": ("service.commands.plan", "check an experiment plan"),
}


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and run the command."""
    parser = argparse.ArgumentParser(prog="python -m service", description=__doc__)
    subparsers = parser.add_subparsers(dest="command", required=True)
    for name, (module, text) in COMMANDS.items():
        importlib.import_module(module).add_arguments(subparsers.add_parser(name, help=text, description=text))
    parsed = parser.parse_args(arguments)
    code: int = importlib.import_module(COMMANDS[parsed.command][0]).run(parsed)
    return code


if __name__ == "__main__":
    sys.exit(main())
