"""Settings of the store: which URLs may name one, and how long a reader waits.

A URL says where and as whom; timeouts and retries are never its business.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Literal
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit, urlunsplit

from feature_store.errors import StoreSettingError

_OPTIONS = re.compile(r"db|ssl_[a-z_]+")
_DATABASE_PATH = re.compile(r"/?|/[0-9]{1,4}")
_SERVICE = re.compile(r"[A-Za-z0-9._-]{1,128}")
_SENTINEL_OPTIONS = ("sentinel_username", "sentinel_password")
_FORMS = (
    "the store's URL must be redis://[user:password@]host[:port][/database], rediss://..., unix:///path, "
    "redis+sentinel://host:port,host:port/service[/database] or redis+cluster://host:port,host:port (rediss+... for TLS); "
    "percent-encode special characters in a password"
)


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


Topology = Literal["single", "sentinel", "cluster"]


@dataclass(frozen=True, slots=True, repr=False)
class StoreAddress:
    """A store's URL taken apart.

    ``node_urls`` are URLs that the driver takes, one for every host named, all with the same credentials and options: the
    server itself, the sentinels, or the cluster's nodes to ask first. ``service`` is the master's name at the sentinels;
    ``sentinel_credentials`` are what the sentinels themselves ask for, if they do. No ``repr``: there may be a password.
    """

    topology: Topology
    node_urls: tuple[str, ...]
    service: str = ""
    sentinel_credentials: tuple[tuple[str, str], ...] = ()


def store_address(url: str) -> StoreAddress:
    """Take a store's URL apart.

    | form | meaning |
    |---|---|
    | ``redis://[user:password@]host[:port][/db]`` | one server |
    | ``unix:///path/to/socket[?db=0]`` | one server on this machine |
    | ``redis+sentinel://[user:password@]host[:port][,host[:port]...]/service[/db]`` | the master that the sentinels name |
    | ``redis+cluster://[user:password@]host[:port][,host[:port]...]`` | a cluster, found from any of the nodes named |

    ``rediss`` in place of ``redis`` means TLS, to sentinels too, with the driver's ``ssl_*`` options: ``ssl_ca_certs``,
    ``ssl_certfile`` and ``ssl_keyfile`` (paths), ``ssl_cert_reqs`` (required, optional, none), ``ssl_check_hostname``
    (yes, no) and so on. Credentials are the servers'; sentinels that ask for their own take ``sentinel_username`` and
    ``sentinel_password``.

    Raises:
        StoreSettingError: the URL cannot be used; the message never repeats it, since it may hold a password.
    """
    scheme, _, topology = url.partition("://")[0].partition("+")
    if topology not in ("sentinel", "cluster") or scheme not in ("redis", "rediss"):
        _check_node_url(url)
        return StoreAddress("single", (url,))
    try:
        parts = urlsplit(url)
        options = parse_qsl(parts.query, strict_parsing=bool(parts.query))
    except ValueError:
        raise StoreSettingError(_FORMS) from None
    service, _, path = (
        parts.path.removeprefix("/").partition("/") if topology == "sentinel" else ("", "", parts.path.strip("/"))
    )
    own = tuple((name.removeprefix("sentinel_"), value) for name, value in options if name in _SENTINEL_OPTIONS)
    if topology == "sentinel" and not _SERVICE.fullmatch(service):
        raise StoreSettingError(
            "the store's URL must name the sentinels' service: redis+sentinel://host:port/service[/database]"
        )
    if topology == "cluster" and (
        path not in ("", "0") or own or any(name == "db" and value != "0" for name, value in options)
    ):
        raise StoreSettingError("the store's URL asks a cluster for what only a single server has: it has database 0 alone")
    credentials, at, hosts = parts.netloc.rpartition("@")
    query = urlencode([pair for pair in options if pair[0] not in _SENTINEL_OPTIONS])
    urls = tuple(urlunsplit((scheme, f"{credentials}{at}{host}", path, query, parts.fragment)) for host in hosts.split(","))
    for node_url in urls:
        _check_node_url(node_url)
    return StoreAddress("sentinel" if topology == "sentinel" else "cluster", urls, service, own)


def _check_node_url(url: str) -> None:
    """Refuse what the driver would misread: it lets a URL override timeouts and drops a database that is no number."""
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("redis", "rediss", "unix") and (parts.port is None or parts.port > 0)
        options = parse_qs(parts.query, strict_parsing=bool(parts.query))
    except ValueError:
        sound, options = False, {}
    if not sound or parts.fragment:
        raise StoreSettingError(_FORMS)
    surplus = sorted(name for name in options if not _OPTIONS.fullmatch(name))
    if surplus:
        raise StoreSettingError("the store's URL has options beyond db and ssl_*; timeouts and retries are settings")
    if not all(value.isascii() and value.isdigit() for value in options.get("db", [])):
        raise StoreSettingError("the store's URL gives a db that is no number")
    if parts.scheme == "unix" and not parts.path.strip("/"):
        raise StoreSettingError("the store's URL names no socket: unix:///path/to/socket is needed")
    if parts.scheme != "unix" and "," in parts.netloc.rpartition("@")[2]:
        raise StoreSettingError("the store's URL names several hosts: that takes redis+sentinel:// or redis+cluster://")
    if parts.scheme != "unix" and not (parts.hostname and _DATABASE_PATH.fullmatch(parts.path)):
        raise StoreSettingError("the store's URL must name a host and end in a database number, such as /0, or in nothing")
