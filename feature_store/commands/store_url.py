"""Which store a command speaks to: one by URL, or the embedded one of a directory. By default that of the service."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from feature_store.embedded import EmbeddedStore
from feature_store.errors import EmbeddedStoreError
from feature_store.keys import DEFAULT_PREFIX

DEFAULT_DIRECTORY = Path("var/store")
URL_VARIABLE = "RANKLINE_STORE__URL"
DIRECTORY_VARIABLE = "RANKLINE_STORE__DIRECTORY"
PREFIX_VARIABLE = "RANKLINE_STORE__PREFIX"
_URLS = (
    "redis://[user:password@]host[:port][/db], unix:///path, redis+sentinel://host:port,host:port/service, "
    "redis+cluster://host:port,host:port; rediss in place of redis for TLS"
)


def add_store_options(command: argparse.ArgumentParser) -> None:
    """``--redis`` or ``--embedded``, and ``--prefix``; without them the service's own settings hold."""
    where = command.add_mutually_exclusive_group()
    where.add_argument("--redis", metavar="URL", help=f"{_URLS} (default: {URL_VARIABLE}, else the embedded store)")
    where.add_argument(
        "--embedded",
        type=Path,
        metavar="DIR",
        help=f"the embedded store's directory (default: {DIRECTORY_VARIABLE}, else {DEFAULT_DIRECTORY})",
    )
    prefix = os.environ.get(PREFIX_VARIABLE) or DEFAULT_PREFIX
    command.add_argument("--prefix", default=prefix, help=f"of every key ({PREFIX_VARIABLE}, else {DEFAULT_PREFIX})")


@contextmanager
def store_url(options: argparse.Namespace, *, create: bool) -> Iterator[str]:
    """The URL that options and environment lead to; an embedded store runs as long as the context does.

    Args:
        create: an embedded store may be new. A command that only reads would find nothing in it.

    Raises:
        EmbeddedStoreError: it cannot be started, or is not there and may not be new.
    """
    url, directory = _store(options)
    if url is not None:
        yield url
        return
    if not create and not directory.is_dir():
        names = f"--embedded or {DIRECTORY_VARIABLE}, or a server by --redis or {URL_VARIABLE}"
        raise EmbeddedStoreError(f"no embedded store in {directory}; name one by {names}")
    with EmbeddedStore(directory) as store:
        yield store.url


def _store(options: argparse.Namespace) -> tuple[str | None, Path]:
    """A server's URL, or None and the directory: flags first, then as the service would choose."""
    if options.redis is not None or options.embedded is not None:
        return options.redis, options.embedded or DEFAULT_DIRECTORY
    return os.environ.get(URL_VARIABLE) or None, Path(os.environ.get(DIRECTORY_VARIABLE) or DEFAULT_DIRECTORY)
