"""Who may be put under load, and whether anybody answers there."""

from __future__ import annotations

import http.client
import ipaddress
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from loadtest.errors import ServiceUnreachableError, TargetRefusedError

_MAX_ANSWER_BYTES = 16 * 1024 * 1024
_MAX_READY_BYTES = 64 * 1024
_EXCERPT = 300


@dataclass(frozen=True, slots=True)
class Target:
    """A service by its parts. The URL is put together from these, so that k6 reads it as it was checked."""

    scheme: str
    host: str
    port: int
    prefix: str

    @property
    def base(self) -> str:
        """The service's address."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.prefix}"

    @property
    def rank_url(self) -> str:
        """Where ranking requests go."""
        return f"{self.base}/rank"


def parse_target(url: str, *, allow_remote: bool) -> Target:
    """The service at ``url``; without ``allow_remote`` it must be on this machine.

    Raises:
        TargetRefusedError: no plain http(s) URL, or a host that is not loopback.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise TargetRefusedError(f"{url!r} is no URL: {error}") from None
    host = parts.hostname or ""
    if parts.scheme not in ("http", "https") or not host:
        raise TargetRefusedError(f"{url!r} is no URL of a service: write one such as http://127.0.0.1:8000")
    if parts.username is not None or parts.query or parts.fragment or "\\" in url:
        raise TargetRefusedError(
            "the URL may hold a scheme, a host, a port and a path, nothing else: it is written into reports"
        )
    if not (allow_remote or is_loopback(host)):
        raise TargetRefusedError(
            f"{host} is not this machine: load goes to loopback (127.0.0.1, ::1, localhost) unless --allow-remote is given"
        )
    default_port = 443 if parts.scheme == "https" else 80
    return Target(parts.scheme, host, default_port if port is None else port, parts.path.rstrip("/"))


def is_loopback(host: str) -> bool:
    """Whether a host is this machine by its spelling alone; other names are not looked up, since k6 would look again."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def probe(target: Target, body: bytes, timeout_s: float) -> Any:
    """Send one request before the run.

    Returns:
        What ``GET /health/ready`` says, or None when it says nothing readable.

    Raises:
        ServiceUnreachableError: no answer, or one that makes the whole run pointless (4xx but not 429).
    """
    try:
        status, answer = _ask(target, "POST", "/rank", body, timeout_s)
    except (OSError, http.client.HTTPException) as error:
        raise ServiceUnreachableError(
            f"no service answers at {target.rank_url} ({type(error).__name__}: {error}): start it first, or check --url"
        ) from None
    if 300 <= status < 500 and status != 429:
        excerpt = answer[:_EXCERPT].decode(errors="replace")
        raise ServiceUnreachableError(f"{target.rank_url} answers the first payload with status {status}: {excerpt}")
    return _ready(target, timeout_s)


def _ready(target: Target, timeout_s: float) -> Any:
    try:
        _, answer = _ask(target, "GET", "/health/ready", None, timeout_s)
        return json.loads(answer) if len(answer) <= _MAX_READY_BYTES else None
    except (OSError, http.client.HTTPException, ValueError):
        return None


def _ask(target: Target, method: str, path: str, body: bytes | None, timeout_s: float) -> tuple[int, bytes]:
    kind = http.client.HTTPSConnection if target.scheme == "https" else http.client.HTTPConnection
    connection = kind(target.host, target.port, timeout=timeout_s)
    try:
        connection.request(method, target.prefix + path, body, {"Content-Type": "application/json"} if body else {})
        response = connection.getresponse()
        return response.status, response.read(_MAX_ANSWER_BYTES)
    finally:
        connection.close()
