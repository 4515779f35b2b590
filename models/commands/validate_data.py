"""``python -m models validate-data views.yaml``"""

from __future__ import annotations

import argparse
from pathlib import Path

from feature_store.table_problems import TablesInvalidError
from feature_store.views import ViewsError
from models.training.split import SplitEmptyError
from models.validate import summary_text, validate_data


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The YAML of feature views."""
    parser.add_argument("views", type=Path, help="the YAML of feature views; the tables' paths in it start at its folder")


def run(args: argparse.Namespace) -> int:
    """Print the summary and return 0, or every problem, one a line, and return 1."""
    try:
        print(summary_text(validate_data(args.views)))
    except (ViewsError, TablesInvalidError, SplitEmptyError) as error:
        print(error)
        return 1
    return 0
