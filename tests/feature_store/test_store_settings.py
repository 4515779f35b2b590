"""Settings of the store: what may be a URL, and bounds that bound."""

import pytest

from feature_store.errors import StoreSettingError
from feature_store.redis.reader import RedisStore
from feature_store.store_settings import ReadLimits


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1",
        "redis://127.0.0.1:6380/3",
        "redis://user:p%40ss@redis.internal:6379/0",
        "rediss://redis.internal/?ssl_cert_reqs=none",
        "redis://[::1]:6379",
        "unix:///run/valkey.sock",
        "unix:///run/valkey.sock?db=2",
        "unix:///tmp/a%20b%3F/valkey.sock",
    ],
)
async def test_urls_of_the_three_schemes_are_accepted(url):
    await RedisStore.from_url(url).close()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:6379",
        "http://127.0.0.1",
        "valkey+unix:///run/valkey.sock",
        "redis://",
        "redis:///0",
        "redis://127.0.0.1:port",
        "redis://127.0.0.1:0",
        "redis://127.0.0.1:99999",
        "redis://127.0.0.1/one",
        "redis://127.0.0.1/0/1",
        "redis://127.0.0.1?db=one",
        "redis://127.0.0.1#0",
        "redis://127.0.0.1?socket_timeout=60",
        "redis://127.0.0.1?retry_on_timeout=yes",
        "redis://127.0.0.1?max_connections=1&db=0",
        "rediss://127.0.0.1?ssl_cert_reqs=perhaps",
        "rediss://127.0.0.1?ssl_nonsense=1",
        "redis://127.0.0.1?ssl_cert_reqs=none",
        "redis://[::1",
        "unix://",
        "unix:///",
    ],
)
def test_a_url_that_would_be_misread_is_refused(url):
    with pytest.raises(StoreSettingError, match="store's URL"):
        RedisStore.from_url(url)


@pytest.mark.parametrize("url", ["redis://user:hunter2/x@host:6379", "redis://user:hunter2@host:0", "ftp://user:hunter2@host"])
def test_a_refusal_never_repeats_the_password(url):
    with pytest.raises(StoreSettingError) as refusal:
        RedisStore.from_url(url)
    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize("bound", ["connect_timeout_s", "read_timeout_s", "pool_timeout_s", "connections", "outstanding"])
def test_a_bound_of_zero_is_refused(bound):
    with pytest.raises(StoreSettingError, match=bound):
        ReadLimits(**{bound: 0})
