"""Settings of the store: which URLs may name one, and how long a reader waits.

A URL says where and as whom; timeouts and retries are never its business.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from urllib.parse import parse_qs, urlsplit

from feature_store.errors import StoreSettingError

_OPTIONS = re.compile(r"db|ssl_[a-z_]+")
_DATABASE_PATH = re.compile(r"/?|/[0-9]{1,4}")


@dataclass(frozen=True, slots=True)
class ReadLimits:
    """Bounds of the read path, in seconds and counts.

    ``outstanding`` bounds the exchanges under way, those whose caller gave up included; the surplus is refused at once.

    Raises:
        StoreSettingError: a bound that is not above zero.
    """

    connect_timeout_s: float = 0.050
    read_timeout_s: float = 0.050
    pool_timeout_s: float = 0.010
    connections: int = 32
    outstanding: int = 256

    def __post_init__(self) -> None:
        for field in fields(self):
            if not getattr(self, field.name) > 0:
                raise StoreSettingError(f"{field.name} must be above zero")


def check_store_url(url: str) -> None:
    """Refuse what the driver would misread: it lets a URL override timeouts and drops a database that is no number.

    Raises:
        StoreSettingError: the URL cannot be used; the message never repeats it, since it may hold a password.
    """
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("redis", "rediss", "unix") and (parts.port is None or parts.port > 0)
        options = parse_qs(parts.query, strict_parsing=bool(parts.query))
    except ValueError:
        sound, options = False, {}
    if not sound or parts.fragment:
        raise StoreSettingError(
            "the store's URL must be redis://[user:password@]host[:port][/database], rediss://... or unix:///path; "
            "percent-encode special characters in a password"
        )
    surplus = sorted(name for name in options if not _OPTIONS.fullmatch(name))
    if surplus:
        raise StoreSettingError("the store's URL has options beyond db and ssl_*; timeouts and retries are settings")
    if not all(value.isascii() and value.isdigit() for value in options.get("db", [])):
        raise StoreSettingError("the store's URL gives a db that is no number")
    if parts.scheme == "unix" and not parts.path.strip("/"):
        raise StoreSettingError("the store's URL names no socket: unix:///path/to/socket is needed")
    if parts.scheme != "unix" and not (parts.hostname and _DATABASE_PATH.fullmatch(parts.path)):
        raise StoreSettingError("the store's URL must name a host and end in a database number, such as /0, or in nothing")
