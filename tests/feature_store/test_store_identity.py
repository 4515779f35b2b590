"""The same store has one fingerprint, another one another, and no password is in it."""

import os
import tempfile

import pytest

from feature_store.embedded import EmbeddedStore
from feature_store.store_identity import is_same_store, store_fingerprint

SAME = [
    ("redis://host", "redis://user:secret@HOST:6379/0"),
    ("redis://host/3", "rediss://host:6379?db=3"),
    ("unix:///run/a%20b.sock", "unix:///run/a b.sock?db=0"),
    ("redis+sentinel://a,b/main", "redis+sentinel://u:p@b:26379,a:26379/main/0?sentinel_password=x"),
    ("redis+sentinel://a,b/main", "redis+sentinel://c,d:26380/main"),
    ("redis+cluster://a:7000,b:7000", "redis+cluster://:pw@b:7000,a:7000"),
    ("redis+cluster://a:7000,b:7000", "redis+cluster://b:7000,c:7000"),
    ("unix:///run//x/../a.sock", "unix:///run/a.sock"),
    ("redis://localhost", "redis://127.0.0.1:6379"),
    ("redis://localhost", "redis://[::1]"),
    ("redis://host", "redis://HOST./0"),
]
OTHERS = [
    ("redis://host", "p"),
    ("redis://other", "p"),
    ("redis://host:6380", "p"),
    ("redis://host/1", "p"),
    ("redis://host", "q"),
    ("unix:///host", "p"),
    ("unix:///host?db=2", "p"),
    ("unix:///host/run/valkey.sock", "p"),
    ("redis+cluster://host", "p"),
    ("redis+cluster://another", "p"),
    ("redis+sentinel://host/one", "p"),
    ("redis+sentinel://host/two", "p"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_credentials_tls_order_and_defaults_make_no_other_store(one, other):
    assert is_same_store(store_fingerprint(one, "p"), store_fingerprint(other, "p"))
    assert not is_same_store(store_fingerprint(one, "p"), store_fingerprint(other, "q"))


def test_hosts_ports_databases_services_and_prefixes_do():
    assert len({store_fingerprint(url, prefix) for url, prefix in OTHERS}) == len(OTHERS)
    assert all(len(store_fingerprint(url, prefix)) == 16 for url, prefix in OTHERS)


def test_a_link_to_a_socket_is_the_socket(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert store_fingerprint(f"unix://{tmp_path}/link/s", "p") == store_fingerprint(f"unix://{tmp_path}/real/s", "p")


@pytest.mark.parametrize("name", ["short", "long" * 25])
def test_the_embedded_store_is_its_directory_wherever_its_socket_lies(tmp_path, monkeypatch, name):
    directory = tmp_path / name
    (tmp_path / "link").symlink_to(tmp_path)
    found = store_fingerprint(EmbeddedStore(directory).url, "p")
    monkeypatch.setattr(tempfile, "tempdir", os.fspath(tmp_path / "t"))
    assert store_fingerprint(EmbeddedStore(tmp_path / "link" / name).url, "p") == found
    assert store_fingerprint(EmbeddedStore(tmp_path / f"{name}2").url, "p") != found
