"""Users with the least rights can do all that live events, changes and exports need."""

from tests.feature_store.redis.event_path import the_whole_path
from tests.feature_store.redis.stored_data import EVENT_RIGHTS, LEAST_RIGHTS


def with_least_rights(servers, url, *more):
    for server in servers:
        with server.client() as client:
            client.execute_command("ACL", "SETUSER", "eventful", "reset", "on", ">secret", *LEAST_RIGHTS, *EVENT_RIGHTS, *more)
    return url.replace("://", "://eventful:secret@")


async def test_on_one_server(any_server):
    with any_server.client() as client:
        client.acl_log_reset()
    await the_whole_path(with_least_rights([any_server], any_server.url))
    with any_server.client() as client:
        assert client.acl_log() == []


async def test_on_a_cluster(any_cluster):
    await the_whole_path(
        with_least_rights(any_cluster.nodes, any_cluster.url, "+cluster|slots", "+asking", "+command", "+info")
    )
