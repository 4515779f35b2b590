"""Fixtures of the tests of live events."""

from tests.fixtures.valkey import valkey, valkey_server, valkey_url

__all__ = ["valkey", "valkey_server", "valkey_url"]
