"""Which store a command speaks to: one by URL, or the embedded one of a directory."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from feature_store.embedded import EmbeddedStore
from feature_store.keys import DEFAULT_PREFIX

DEFAULT_DIRECTORY = Path("var/store")


def add_store_options(command: argparse.ArgumentParser) -> None:
    """``--redis`` or ``--embedded``, and ``--prefix``."""
    where = command.add_mutually_exclusive_group()
    where.add_argument("--redis", metavar="URL", help="redis://, rediss:// or unix:// (default: the embedded store)")
    where.add_argument(
        "--embedded", type=Path, metavar="DIR", default=DEFAULT_DIRECTORY, help="the embedded store's directory (%(default)s)"
    )
    command.add_argument("--prefix", default=DEFAULT_PREFIX, help="of every key (%(default)s)")


@contextmanager
def store_url(options: argparse.Namespace) -> Iterator[str]:
    """The URL that the options lead to; an embedded store runs as long as the context does."""
    if options.redis is not None:
        yield options.redis
        return
    with EmbeddedStore(options.embedded) as store:
        yield store.url
