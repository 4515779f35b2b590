"""``python -m models export RUN_DIR --repository DIR``"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from models.agreement import ParityError
from models.export import export_run
from models.manifest import Collapsed
from models.repository import ModelRepository, RepositoryError
from models.training.run_directory import RunRefusedError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which run, into which repository, under which name."""
    parser.add_argument("run", type=Path, metavar="RUN_DIR", help="directory of a finished run (train prints it)")
    parser.add_argument("--repository", type=Path, required=True, help="root of the model repository")
    parser.add_argument("--name", help="model name; the network's by default")
    parser.add_argument("--plain", action="store_true", help="without the forms that score without repeated work")


def run(args: argparse.Namespace) -> int:
    """Export and publish; prints the parity by case and, as the last line, ``published: NAME@VERSION``."""
    repository = ModelRepository(args.repository)
    try:
        manifest = export_run(args.run, repository, args.name, collapsed=not args.plain)
    except (RunRefusedError, ParityError, RepositoryError) as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{error.filename or args.repository}: {error.strerror}", file=sys.stderr)
        return 1
    for case, difference in manifest.parity.cases.items():
        print(f"parity {case.ljust(18)} {difference:.1e}")
    if manifest.collapsed is not None:
        _print_collapsed(manifest.collapsed)
    print(f"published: {manifest.name}@{manifest.version}")
    return 0


def _print_collapsed(collapsed: Collapsed) -> None:
    """What the collapsed forms save."""
    before, after = collapsed.plain_cost, collapsed.collapsed_cost
    print(f"collapsed parity          {collapsed.parity.largest:.1e}")
    print(f"operations per candidate  {before.flops_per_row:,.0f} -> {after.flops_per_row:,.0f}")
    print(f"bytes per candidate       {before.bytes_per_row:,.0f} -> {after.bytes_per_row:,.0f}")
