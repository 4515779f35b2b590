"""Bodies as servers hand them over: whole, in parts, late, too long, or broken off."""

import asyncio

import pytest

from service.api.body import receive_body
from service.errors import BodyTooLargeError, BodyTooSlowError, BodyUnreadableError


def part(body, more=False):
    return {"type": "http.request", "body": body, "more_body": more}


GONE = {"type": "http.disconnect"}


def sender(*messages, wait_s=0.0):
    """A server's ``receive``: the messages in turn, each ``wait_s`` late; then silence."""
    left = list(messages)

    async def receive():
        if wait_s:
            await asyncio.sleep(wait_s)
            await asyncio.sleep(0)
        if not left:
            await asyncio.Event().wait()
        return left.pop(0)

    receive.left = left
    return receive


@pytest.mark.parametrize("wait_s", [0.0, 0.001])
@pytest.mark.parametrize("parts", [[b"abc"], [b""], [b"a", b"", b"bc"], [b"ab", b"c"]])
async def test_the_parts_are_joined_whenever_they_come(parts, wait_s):
    messages = [part(each, more=True) for each in parts[:-1]] + [part(parts[-1])]
    assert await receive_body(sender(*messages, wait_s=wait_s), 3, 5.0) == b"".join(parts)


@pytest.mark.parametrize("wait_s", [0.0, 0.001])
@pytest.mark.parametrize("messages", [[part(b"abcd")], [part(b"ab", more=True), part(b"cd")]])
async def test_a_longer_body_is_refused(messages, wait_s):
    with pytest.raises(BodyTooLargeError):
        await receive_body(sender(*messages, wait_s=wait_s), 3, 5.0)


async def test_a_much_longer_body_is_not_read_to_its_end():
    receive = sender(*[part(b"x" * 10, more=True) for _ in range(100)])
    with pytest.raises(BodyTooLargeError):
        await receive_body(receive, 10, 5.0)
    assert 80 < len(receive.left) < 100


@pytest.mark.parametrize("wait_s", [0.0, 0.001])
@pytest.mark.parametrize("messages", [[GONE], [part(b"a", more=True), GONE]])
async def test_a_client_that_leaves_has_sent_no_body(messages, wait_s):
    with pytest.raises(BodyUnreadableError):
        await receive_body(sender(*messages, wait_s=wait_s), 3, 5.0)


@pytest.mark.parametrize("messages", [[], [part(b"a", more=True)]])
async def test_a_body_that_does_not_come_is_given_up(messages):
    with pytest.raises(BodyTooSlowError):
        await receive_body(sender(*messages), 3, 0.01)


async def test_any_awaitable_is_waited_for():
    def receive():
        future = asyncio.get_running_loop().create_future()
        future.set_result(part(b"abc"))
        return future

    assert await receive_body(receive, 3, 5.0) == b"abc"


async def test_a_cancelled_request_ends_the_servers_wait_too():
    ended = asyncio.Event()

    async def receive():
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    task = asyncio.create_task(receive_body(receive, 3, 5.0))
    await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_a_server_that_answers_its_own_cancellation_is_heard():
    async def receive():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            return GONE

    with pytest.raises((BodyUnreadableError, BodyTooSlowError)):
        await receive_body(receive, 3, 0.01)
