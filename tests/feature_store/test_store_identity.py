"""The same store has one fingerprint, another one another, and no password is in it."""

import pytest

from feature_store.store_identity import store_fingerprint

SAME = [
    ("redis://host", "redis://user:secret@HOST:6379/0"),
    ("redis://host/3", "rediss://host:6379?db=3"),
    ("unix:///run/a%20b.sock", "unix:///run/a b.sock?db=0"),
    ("redis+sentinel://a,b/main", "redis+sentinel://u:p@b:26379,a:26379/main/0?sentinel_password=x"),
    ("redis+cluster://a:7000,b:7000", "redis+cluster://:pw@b:7000,a:7000"),
]
OTHERS = [
    ("redis://host", "p"),
    ("redis://other", "p"),
    ("redis://host:6380", "p"),
    ("redis://host/1", "p"),
    ("redis://host", "q"),
    ("unix:///host", "p"),
    ("unix:///host?db=2", "p"),
    ("redis+cluster://host", "p"),
    ("redis+sentinel://host/one", "p"),
    ("redis+sentinel://host/two", "p"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_credentials_tls_order_and_defaults_make_no_other_store(one, other):
    assert store_fingerprint(one, "p") == store_fingerprint(other, "p")


def test_hosts_ports_databases_services_and_prefixes_do():
    assert len({store_fingerprint(url, prefix) for url, prefix in OTHERS}) == len(OTHERS)
    assert all(len(store_fingerprint(url, prefix)) == 16 for url, prefix in OTHERS)
