"""Which store a URL and a key prefix name, as digests that can be written to disk: they hold no credentials."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from feature_store.store_settings import StoreAddress, store_address

_PORT = 6379
_DIGEST_BYTES = 8
_THIS_MACHINE = frozenset({"localhost", "127.0.0.1", "::1"})
_FAR_SOCKET = re.compile(r"rankline-[0-9]+-([0-9a-f]{16})")


def store_fingerprint(url: str, prefix: str) -> str:
    """16 hex digits, for a cluster such of every seed with commas between; ``is_same_store`` compares them.

    What counts is the database and the prefix, and of one server host and port or the socket's real path, of the embedded
    store its directory; of sentinels their service, not which of them are named; of a cluster its seeds. Who logs in, and how,
    does not.

    Raises:
        StoreSettingError: the URL cannot be used.
    """
    address = store_address(url)
    database = _database(address.node_urls[0])
    return ",".join(sorted({_digest(address.topology, place, database, prefix) for place in _places(address)}))


def is_same_store(one: str, other: str) -> bool:
    """Whether two fingerprints are of one store: of clusters, whether they have a seed in common."""
    return not set(one.split(",")).isdisjoint(other.split(","))


def _digest(*parts: str) -> str:
    return hashlib.blake2b("\n".join(parts).encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).hexdigest()


def _places(address: StoreAddress) -> list[str]:
    return [address.service] if address.topology == "sentinel" else list(map(_place, address.node_urls))


def _place(node_url: str) -> str:
    parts = urlsplit(node_url)
    if parts.scheme == "unix":
        return _socket(Path(os.path.realpath(unquote(parts.path))))
    host = (parts.hostname or "").lower().rstrip(".")
    return f"{'localhost' if host in _THIS_MACHINE else host}:{parts.port or _PORT}"


def _socket(path: Path) -> str:
    """Of the embedded store the digest of its directory, which is in the name of a socket that lies elsewhere, too."""
    if path.name == "valkey.sock" and path.parent.name == "run":
        return f"embedded {hashlib.sha256(os.fsencode(path.parent.parent)).hexdigest()[:16]}"
    far = _FAR_SOCKET.fullmatch(path.parent.name)
    return f"embedded {far[1]}" if far is not None and path.name == "valkey.sock" else str(path)


def _database(node_url: str) -> str:
    parts = urlsplit(node_url)
    given = parse_qs(parts.query).get("db", [""])[0] or ("" if parts.scheme == "unix" else parts.path.strip("/"))
    return str(int(given or 0))
