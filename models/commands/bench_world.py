"""``python -m models bench-world --out DIR``"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from models.agreement import ParityError
from models.bench_world.tables import BenchWorldConfig, BenchWorldError
from models.bench_world.world import write_bench_world
from models.repository import RepositoryError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The folder to write, the sizes and the seed."""
    default = BenchWorldConfig()
    parser.add_argument("--out", type=Path, required=True, help="new folder for tables, models, plans and ids")
    parser.add_argument("--users", type=int, default=default.users)
    parser.add_argument("--items", type=int, default=default.items)
    parser.add_argument("--seed", type=int, default=default.seed, help="the same seed gives the same data and weights")


def run(args: argparse.Namespace) -> int:
    """Make the world; prints a line a published version, and the folder last."""
    try:
        config = BenchWorldConfig(users=args.users, items=args.items, seed=args.seed)
        manifests = write_bench_world(config, args.out)
    except (BenchWorldError, ParityError, RepositoryError) as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{error.filename or args.out}: {error.strerror}", file=sys.stderr)
        return 1
    for manifest in manifests:
        print(f"published: {manifest.name}@{manifest.version} (parity {manifest.parity.largest:.1e})")
    print(f"wrote {args.out}")
    return 0
