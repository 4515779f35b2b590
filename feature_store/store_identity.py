"""Which store a URL and a key prefix name, as a short digest that can be written to disk: it holds no credentials."""

from __future__ import annotations

import hashlib
from urllib.parse import parse_qs, unquote, urlsplit

from feature_store.store_settings import StoreAddress, store_address

_PORT, _SENTINEL_PORT = 6379, 26379
_DIGEST_BYTES = 8


def store_fingerprint(url: str, prefix: str) -> str:
    """16 hex digits: the same for the same hosts, ports or socket, service, database and prefix, whoever logs in and how.

    Raises:
        StoreSettingError: the URL cannot be used.
    """
    address = store_address(url)
    places = sorted(_place(node_url, address) for node_url in address.node_urls)
    parts = (address.topology, *places, address.service, _database(address.node_urls[0]), prefix)
    return hashlib.blake2b("\n".join(parts).encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).hexdigest()


def _place(node_url: str, address: StoreAddress) -> str:
    parts = urlsplit(node_url)
    if parts.scheme == "unix":
        return unquote(parts.path)
    port = parts.port or (_SENTINEL_PORT if address.topology == "sentinel" else _PORT)
    return f"{(parts.hostname or '').lower()}:{port}"


def _database(node_url: str) -> str:
    parts = urlsplit(node_url)
    given = parse_qs(parts.query).get("db", [""])[0] or ("" if parts.scheme == "unix" else parts.path.strip("/"))
    return str(int(given or 0))
