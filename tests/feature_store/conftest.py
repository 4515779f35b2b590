"""Fixtures of the feature store's tests."""

from tests.fixtures.redis_servers import (
    any_binary,
    any_cluster,
    any_sentinels,
    any_server,
    any_session_cluster,
    any_session_server,
)
from tests.fixtures.tls import certificates
from tests.fixtures.valkey import valkey, valkey_server, valkey_url

__all__ = [
    "any_binary",
    "any_cluster",
    "any_sentinels",
    "any_server",
    "any_session_cluster",
    "any_session_server",
    "certificates",
    "valkey",
    "valkey_server",
    "valkey_url",
]
