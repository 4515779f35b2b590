"""Settings of the store: what may be a URL, and bounds that bound."""

import pytest

from feature_store.errors import StoreSettingError
from feature_store.redis.reader import RedisStore
from feature_store.redis.writer import RedisWriter
from feature_store.store_settings import ReadLimits, store_address


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
        "rediss://redis.internal/1?ssl_check_hostname=no&ssl_min_version=771&ssl_ca_certs=/etc/authority.pem",
        "redis+sentinel://10.0.0.1:26379,10.0.0.2:26379,sentinel-3/features",
        "redis+sentinel://user:p%40ss%2Cword@10.0.0.1/features/2",
        "rediss+sentinel://:secret@[::1]:26380,10.0.0.2/features/0?ssl_cert_reqs=none",
        "redis+sentinel://10.0.0.1/features?sentinel_username=watcher&sentinel_password=p%26ss&db=3",
        "redis+cluster://10.0.0.1:7000,10.0.0.2:7001,node-3",
        "redis+cluster://user:secret@10.0.0.1:7000/0",
        "rediss+cluster://[::1]:7000,10.0.0.2?ssl_check_hostname=no",
    ],
)
async def test_urls_of_every_form_are_accepted(url):
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
        "redis+sentinel://10.0.0.1:26379",
        "redis+sentinel:///features",
        "redis+sentinel://10.0.0.1,/features",
        "redis+sentinel://10.0.0.1:0/features",
        "redis+sentinel://10.0.0.1/features/one",
        "redis+sentinel://10.0.0.1/features/0/1",
        "redis+sentinel://10.0.0.1/fea%20tures",
        "redis+sentinel://10.0.0.1/features?timeout=9",
        "redis+sentinel://10.0.0.1/features#0",
        "rediss+sentinel://10.0.0.1/features?ssl_nonsense=1",
        "redis+sentinel://[::1/features",
        "redis+cluster://",
        "redis+cluster://10.0.0.1/1",
        "redis+cluster://10.0.0.1?db=1",
        "redis+cluster://10.0.0.1/features",
        "redis+cluster://10.0.0.1,10.0.0.2:port",
        "redis+cluster://10.0.0.1?sentinel_password=x",
        "rediss+cluster://10.0.0.1?ssl_cert_reqs=perhaps",
        "redis://10.0.0.1,10.0.0.2:7000",
        "redis://10.0.0.1?sentinel_password=x",
        "unix+sentinel:///run/sentinel.sock",
        "redis+cluster+sentinel://10.0.0.1",
    ],
)
def test_a_url_that_would_be_misread_is_refused(url):
    with pytest.raises(StoreSettingError, match="store's URL"):
        RedisStore.from_url(url)
    with pytest.raises(StoreSettingError, match="store's URL"):
        RedisWriter.from_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:hunter2/x@host:6379",
        "redis://user:hunter2@host:0",
        "ftp://user:hunter2@host",
        "redis+sentinel://user:hunter2@host:0/features",
        "redis+sentinel://user:hunter2@host",
        "redis+sentinel://host/features/x?sentinel_password=hunter2",
        "redis+cluster://user:hunter2@host:0",
        "redis+cluster://user:hunter2/x@host,host",
        "rediss+cluster://user:hunter2@host?ssl_nonsense=1",
    ],
)
def test_a_refusal_never_repeats_the_password(url):
    with pytest.raises(StoreSettingError) as refusal:
        RedisStore.from_url(url)
    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize("bound", ["connect_timeout_s", "read_timeout_s", "pool_timeout_s", "connections", "outstanding"])
def test_a_bound_of_zero_is_refused(bound):
    with pytest.raises(StoreSettingError, match=bound):
        ReadLimits(**{bound: 0})


def test_an_address_names_every_host_with_the_same_credentials_and_options():
    address = store_address("rediss+sentinel://me:p%40ss@a:1,[::1]:2/features/3?ssl_check_hostname=no&sentinel_password=p%26")
    assert (address.topology, address.service) == ("sentinel", "features")
    assert address.node_urls == (
        "rediss://me:p%40ss@a:1/3?ssl_check_hostname=no",
        "rediss://me:p%40ss@[::1]:2/3?ssl_check_hostname=no",
    )
    assert address.sentinel_credentials == (("password", "p&"),)
    assert "p%40ss" not in repr(address)
