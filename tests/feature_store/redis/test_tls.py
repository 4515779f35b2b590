"""TLS and users: the right ones are let in with the least they need, the wrong ones are told apart."""

import pytest

from feature_store.errors import StoreUnavailableError
from feature_store.store_settings import ReadLimits
from tests.feature_store.redis.stored_data import LEAST_RIGHTS, assert_whole, hasty_store, reason_of, write_everyone
from tests.fixtures.tls import tls_in_front_of

USER = ("rank%2Cline", "p%40ss%2Fw%3Aord")
"""The user ``rank,line`` with the password ``p@ss/w:ord``."""


@pytest.fixture
async def tls_port(any_server, certificates):
    async with tls_in_front_of(any_server.port, certificates) as port:
        yield port


@pytest.fixture
def guarded(any_server):
    """The server with a user who may do only what reading and writing records takes, and nobody else."""
    with any_server.client() as client:
        client.execute_command("ACL", "SETUSER", "rank,line", "on", ">p@ss/w:ord", *LEAST_RIGHTS)
        client.execute_command("ACL", "SETUSER", "reader", "on", ">secret", "~rankline:*", "+ping")
    yield any_server
    with any_server.client() as client:
        client.execute_command("ACL", "DELUSER", "rank,line", "reader")


def tls_url(port, certificates, credentials="", **options):
    options = {"ssl_ca_certs": certificates.authority, **options}
    return f"rediss://{credentials}127.0.0.1:{port}/0?" + "&".join(f"{name}={value}" for name, value in options.items())


async def test_over_tls_with_the_right_authority_everything_is_written_and_read(tls_port, certificates):
    await write_everyone(tls_url(tls_port, certificates))
    store = hasty_store(tls_url(tls_port, certificates))
    await assert_whole(store)
    await store.close()


async def test_a_user_with_the_least_rights_writes_and_reads(guarded, tls_port, certificates):
    url = tls_url(tls_port, certificates, "{}:{}@".format(*USER))
    await write_everyone(url)
    store = hasty_store(url)
    await store.ping()
    await assert_whole(store)
    await store.close()


@pytest.mark.parametrize("options", [{}, {"ssl_check_hostname": "no"}])
async def test_a_server_whose_authority_is_unknown_is_refused(tls_port, certificates, options):
    url = tls_url(tls_port, certificates, **{**options, "ssl_ca_certs": certificates.stranger})
    store = hasty_store(url)
    assert await reason_of(store.read("u1", [])) == "refused"
    await store.close()
    with pytest.raises(StoreUnavailableError):
        await write_everyone(url)


async def test_a_certificate_for_another_host_is_refused_unless_told_otherwise(tls_port, certificates):
    elsewhere = tls_url(tls_port, certificates).replace("127.0.0.1", "localhost")
    store = hasty_store(elsewhere)
    assert await reason_of(store.read("u1", [])) == "refused"
    await store.close()
    for lenient in (f"{elsewhere}&ssl_check_hostname=no", f"{elsewhere}&ssl_cert_reqs=none"):
        store = hasty_store(lenient)
        assert (await store.read("nobody", [])).user is None
        await store.close()


async def test_plain_text_to_a_tls_port_and_tls_to_a_plain_port_have_reasons(any_server, tls_port, certificates):
    for url in (f"redis://127.0.0.1:{tls_port}", tls_url(any_server.port, certificates)):
        store = hasty_store(url, limits=ReadLimits(connect_timeout_s=0.3, read_timeout_s=0.3))
        assert await reason_of(store.read("u1", [])) in {"disconnected", "refused", "protocol", "timeout"}
        await store.close()


@pytest.mark.parametrize("credentials", ["rank%2Cline:wrong@", "nobody:p%40ss@", ":wrong@"])
async def test_a_wrong_user_or_password_is_told_as_such_and_never_repeated(guarded, credentials):
    url = guarded.url.replace("://", f"://{credentials}")
    store = hasty_store(url)
    with pytest.raises(StoreUnavailableError) as error:
        await store.read("u1", [])
    assert (error.value.reason, "wrong" in str(error.value).lower().replace("wrongpass", "")) == ("noauth", False)
    await store.close()


async def test_a_command_that_the_user_may_not_send_is_told_as_such(guarded):
    store = hasty_store(guarded.url.replace("://", "://reader:secret@"))
    await store.ping()
    assert await reason_of(store.read("u1", [])) == "noauth"
    await store.close()


async def test_a_server_that_asks_for_a_password_is_told_as_such(any_server):
    with any_server.client() as client:
        client.config_set("requirepass", "secret")
        store = hasty_store(any_server.url)
        try:
            assert await reason_of(store.read("u1", [])) == "noauth"
            right = hasty_store(any_server.url.replace("://", "://:secret@"))
            assert (await right.read("nobody", [])).user is None
            await right.close()
        finally:
            client.config_set("requirepass", "")
    await store.close()


async def test_a_cluster_over_tls_with_a_user(any_server, certificates, tls_port):
    """What the options lead to; the nodes' own addresses are plain here, so only the first step can be looked at."""
    store = hasty_store(tls_url(tls_port, certificates).replace("rediss://", "rediss+cluster://"))
    assert await reason_of(store.read("u1", [])) == "unknown"  # let in by TLS, and then told that it is no cluster
    await store.close()
    store = hasty_store(
        tls_url(tls_port, certificates, ssl_ca_certs=certificates.stranger).replace("rediss://", "rediss+cluster://")
    )
    assert await reason_of(store.read("u1", [])) == "refused"
    await store.close()
