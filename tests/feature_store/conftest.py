"""Fixtures of the feature store's tests."""

from tests.fixtures.valkey import valkey, valkey_server, valkey_url

__all__ = ["valkey", "valkey_server", "valkey_url"]
