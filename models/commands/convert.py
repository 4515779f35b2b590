"""``python -m models convert SOURCE OUT``"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from models.datasets.movielens import ConversionError, convert_movielens


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The source folder and the folder to write."""
    parser.add_argument("source", type=Path, help="folder of MovieLens-1M (.dat) or MovieLens-100k (RecBole's atomic files)")
    parser.add_argument("out", type=Path, help="folder for views.yaml and three Parquet tables")


def run(args: argparse.Namespace) -> int:
    """Convert; 0 when the data set was written."""
    try:
        conversion = convert_movielens(args.source, args.out)
    except ConversionError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{error.filename or args.out}: {error.strerror}", file=sys.stderr)
        return 1
    for note in conversion.notes:
        print(note)
    print(f"wrote {conversion.views}")
    return 0
