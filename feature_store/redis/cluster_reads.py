"""Reading from a cluster by the rules that hold for a single server.

The driver's cluster client lends connections without looking for bytes left over in them, follows redirections one command
after another, and closes every connection, those of other requests included, when one node is out. So reads find their own
way: the keys are grouped by node, each node gets one write of all that concerns it, all nodes at the same time. One round
trip therefore means one to every node concerned, in parallel.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any

from redis import exceptions as driver
from redis.asyncio.connection import AbstractConnection
from redis.crc import key_slot

from feature_store.errors import StoreUnavailableError
from feature_store.redis.cluster_slots import Address, SlotMap
from feature_store.redis.connections import ask, driver_errors
from feature_store.redis.topology_lookup import Lookup
from feature_store.redis.topology_node import AnswerT, ReadingOf, StoreNode
from feature_store.redis.value_replies import get_reply, mget_reply, packed_get, packed_mget
from feature_store.stored import ReadValue

MAX_HOPS = 5
"""How often a key is asked for at most, the first time included."""

_ASKED_FOR_SLOTS = 3
_LOOK_AGAIN_S = 0.2
_MOST_NODES = 1_000


class ClusterReads:
    """Holds the slot map, corrected by every redirection and fetched anew after every trouble, and a pool for each node."""

    shares_exchanges = False
    """One node's trouble is no reason to fail those whose keys are elsewhere."""

    def __init__(self, seeds: Sequence[Address], open_node: Callable[[Address], StoreNode], *, timeout_s: float) -> None:
        """``timeout_s`` bounds a read with all its redirections; ``seeds`` are asked for the slots, as is every known node."""
        self._seeds = tuple(seeds)
        self._open_node = open_node
        self._timeout_s = timeout_s
        self._nodes: dict[Address, StoreNode] = {}
        self._slots: Lookup[SlotMap] = Lookup(self._fetch_slots, pause_s=_LOOK_AGAIN_S)

    async def exchange(self, single: Sequence[bytes], many: Sequence[bytes], reading: ReadingOf[AnswerT]) -> AnswerT:
        """As ``StoreNode``, by one MGET a slot of the ``many``; the connections go back when the values are checked.

        Raises:
            StoreUnavailableError: no usable answer from some node concerned.
        """
        async with AsyncExitStack() as stack:
            exchange = _Exchange(stack, self.node, single, many)
            try:
                async with asyncio.timeout(self._timeout_s):
                    slots = self._slots.last or await self._slots.find()
                    await exchange.run(slots)
            except TimeoutError:
                self._slots.look_again()
                raise StoreUnavailableError("timeout", "the cluster did not answer in time") from None
            except StoreUnavailableError:
                self._slots.look_again()
                raise
            if exchange.redirected:
                self._slots.look_again()
            answer, mixed_up = reading(exchange.values)
            if mixed_up:
                await exchange.distrust()
            return answer

    async def ping(self) -> None:
        """Prove that every master answers.

        Raises:
            StoreUnavailableError: one does not.
        """
        slots = await self._slots.find()
        pings = await asyncio.gather(*(self.node(master).ping() for master in slots.masters), return_exceptions=True)
        _raise_first(pings)

    async def close(self) -> None:
        """Close every connection."""
        await self._slots.close()
        for node in self._nodes.values():
            await node.close()

    def node(self, address: Address) -> StoreNode:
        """The node at this address; a redirection may name one that no slot map has told of."""
        if address not in self._nodes:
            if len(self._nodes) >= _MOST_NODES:
                raise StoreUnavailableError("cluster_down", "redirected to more nodes than a cluster has")
            self._nodes[address] = self._open_node(address)
        return self._nodes[address]

    async def _fetch_slots(self) -> SlotMap:
        """The slots as the first of a few nodes tells them, drawn from all known, so that no dead one stays in the way."""
        known = list({*self._seeds, *self._nodes})
        asked = [
            asyncio.ensure_future(self._slots_by(address))
            for address in random.sample(known, min(_ASKED_FOR_SLOTS, len(known)))
        ]
        trouble: Exception | None = None
        try:
            for answer in asyncio.as_completed(asked):
                try:
                    slots = await answer
                    await self._forget_nodes(slots.masters)
                except StoreUnavailableError as error:
                    trouble = error
                else:
                    return slots
        finally:
            for question in asked:
                question.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        raise trouble or StoreUnavailableError("cluster_down")

    async def _slots_by(self, address: Address) -> SlotMap:
        async with self.node(address).borrowed() as connection:
            return SlotMap(await ask(connection, b"CLUSTER", b"SLOTS"), address)

    async def _forget_nodes(self, masters: set[Address]) -> None:
        for address in self._nodes.keys() - masters - set(self._seeds):
            await self._nodes.pop(address).drop_connections()


@dataclass(frozen=True, slots=True)
class _Question:
    """A GET, or an MGET of keys of one slot: their positions among all keys, and where to ask."""

    slot: int
    positions: tuple[int, ...]
    at: Address
    single: bool
    """Asked for by GET."""
    asking: bool = False
    """Sent after an ASK redirection: the node answers for a slot that is still on its way to it."""


class _Exchange:
    """One read: asks, follows redirections, and holds every connection until the values are checked."""

    def __init__(
        self, stack: AsyncExitStack, node: Callable[[Address], StoreNode], single: Sequence[bytes], many: Sequence[bytes]
    ) -> None:
        self._stack = stack
        self._node = node
        self._keys = [*single, *many]
        self._single = len(single)
        self._held: dict[Address, AbstractConnection] = {}
        self.values: list[ReadValue] = [None] * len(self._keys)
        self.redirected = False

    async def run(self, slots: SlotMap) -> None:
        """Fill ``values``.

        Raises:
            StoreUnavailableError: a node concerned gives no usable answer; ``cluster_down`` after too many redirections.
        """
        questions = self._questions(slots)
        for _ in range(MAX_HOPS):
            by_node: defaultdict[Address, list[_Question]] = defaultdict(list)
            for question in questions:
                by_node[question.at].append(question)
            replies = await asyncio.gather(*(self._ask_node(*each) for each in by_node.items()), return_exceptions=True)
            _raise_first(replies)
            asked = [question for group in by_node.values() for question in group]
            answers = [reply for group in replies if isinstance(group, list) for reply in group]
            questions = [
                again for question, answer in zip(asked, answers, strict=True) for again in self._take(question, answer, slots)
            ]
            if not questions:
                return
            self.redirected = True
        raise StoreUnavailableError("cluster_down", f"redirected {MAX_HOPS} times")

    def _questions(self, slots: SlotMap) -> list[_Question]:
        by_slot: defaultdict[int, list[int]] = defaultdict(list)
        of_keys = [key_slot(key) for key in self._keys]
        for position in range(self._single, len(self._keys)):
            by_slot[of_keys[position]].append(position)
        single = [
            _Question(slot, (position,), slots.owner(slot), single=True)
            for position, slot in enumerate(of_keys[: self._single])
        ]
        return single + [_Question(slot, tuple(each), slots.owner(slot), single=False) for slot, each in by_slot.items()]

    async def distrust(self) -> None:
        """Drop the connections held, and all others of the nodes concerned."""
        for address, connection in self._held.items():
            await self._node(address).distrust(connection)

    async def _ask_node(self, address: Address, questions: list[_Question]) -> list[Any]:
        """A node's replies to its questions, in order; error replies are replies."""
        connection = self._held.get(address)
        if connection is None:
            connection = self._held[address] = await self._stack.enter_async_context(self._node(address).borrowed())
        try:
            with driver_errors():
                await connection.send_packed_command(b"".join(self._packed(question) for question in questions))
                return [await _reply(connection, question) for question in questions]
        except BaseException:
            await connection.disconnect(nowait=True)  # replies may still be on their way
            raise

    def _packed(self, question: _Question) -> bytes:
        keys = [self._keys[position] for position in question.positions]
        command = packed_get(keys[0]) if question.single else packed_mget(keys)
        return b"*1\r\n$6\r\nASKING\r\n" + command if question.asking else command

    def _take(self, question: _Question, reply: object, slots: SlotMap) -> list[_Question]:
        """Keep the values, or say what to ask next; ``_reply`` let nothing else through."""
        match reply:
            case driver.MovedError():
                at = (reply.host or question.at[0], reply.port)
                slots.move(question.slot, at)
                return [replace(question, at=at, asking=False)]
            case driver.AskError():
                return [replace(question, at=(reply.host or question.at[0], reply.port), asking=True)]
            case driver.TryAgainError():
                # Some of the keys have moved already, others not. Each for itself has a home, and the slot's owner knows it;
                # a node that the slot is moving to would call a key absent that has not arrived.
                at = slots.owner(question.slot)
                return [replace(question, positions=(position,), at=at, asking=False) for position in question.positions]
            case list():
                for position, value in zip(question.positions, reply, strict=True):
                    self.values[position] = value
        return []


async def _reply(connection: AbstractConnection, question: _Question) -> Any:
    """Values, or a redirection.

    Raises:
        StoreUnavailableError: anything else.
    """
    if question.asking:
        await connection.read_response()
    try:
        return [await get_reply(connection)] if question.single else await mget_reply(connection, len(question.positions))
    except (driver.AskError, driver.TryAgainError) as error:
        return error


def _raise_first(outcomes: Sequence[Any]) -> None:
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
