"""``python -m models simulate OUT``"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from models.datasets.simulated import SimulationConfig, SimulationError, write_simulated


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The folder to write, the sizes and the seed."""
    default = SimulationConfig()
    parser.add_argument("out", type=Path, help="folder for views.yaml and three Parquet tables")
    parser.add_argument("--users", type=int, default=default.users)
    parser.add_argument("--items", type=int, default=default.items)
    parser.add_argument("--requests", type=int, default=default.requests, help="of 8 to 10 impressions each")
    parser.add_argument("--seed", type=int, default=default.seed, help="the same seed gives the same data")


def run(args: argparse.Namespace) -> int:
    """Simulate; 0 when the data set was written."""
    try:
        config = SimulationConfig(users=args.users, items=args.items, requests=args.requests, seed=args.seed)
        path = write_simulated(config, args.out)
    except SimulationError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{error.filename or args.out}: {error.strerror}", file=sys.stderr)
        return 1
    print(f"wrote {path}")
    return 0
