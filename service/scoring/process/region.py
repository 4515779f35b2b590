"""Memory that one front-end shares with the scorer: slots for requests and their answers, and two rings of slot numbers.

The memory is an anonymous file (memfd), handed over as a descriptor. So it has no name that could be left behind or guessed,
it goes with its last holder, however that one dies, and Python's resource tracker, which would remove a named segment under
the survivors, never hears of it. Its size is sealed: a peer that shortened it would kill the other by SIGBUS.

::

    page 0     what it is (checked when it is attached)
    rings      uint32 [slots] of requests, uint32 [slots] of answers
    slots      each: 64 bytes of request header, 64 of answer header, then ``slot_bytes`` of payload

A slot belongs to one side at a time: to the front-end, until its number goes through the request ring; to the scorer, until it
comes back through the answer ring. Only the word ``wanted`` is written by the front-end at any time.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from service.scoring.process.errors import ProtocolError

_MAGIC = 0x3152_4E4C_4E4B_4E52
_ABOUT = struct.Struct("<QQQ")
_PAGE = 4_096
_HEADERS_BYTES = 128
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
_LARGEST = 1 << 34


@dataclass(frozen=True, slots=True)
class RegionShape:
    """``slots``: requests that may be under way. ``slot_bytes``: of payload each; pages never written to cost nothing."""

    slots: int = 64
    slot_bytes: int = 1 << 20

    def __post_init__(self) -> None:
        if not 1 <= self.slots <= 65_536:
            raise ValueError(f"slots must be 1 to 65,536, not {self.slots}")
        if self.slot_bytes < _PAGE or self.slot_bytes % 64 or self.size > _LARGEST:
            raise ValueError(f"slot_bytes must be a multiple of 64, at least {_PAGE}, 16 GiB in all, not {self.slot_bytes}")

    @property
    def stride(self) -> int:
        """Bytes from one slot to the next."""
        return _HEADERS_BYTES + self.slot_bytes

    @property
    def first_slot(self) -> int:
        """Where the slots begin."""
        return _PAGE + -(-self.slots * 8 // _PAGE) * _PAGE

    @property
    def size(self) -> int:
        """Bytes of the whole region."""
        return self.first_slot + self.slots * self.stride


class Region:
    """A mapped region. Views into ``memory`` keep it mapped for as long as they live; it is never closed by hand."""

    def __init__(self, memory: mmap.mmap, shape: RegionShape) -> None:
        self.memory = memory
        self.shape = shape
        self.request_ring = np.frombuffer(memory, np.uint32, shape.slots, _PAGE)
        self.answer_ring = np.frombuffer(memory, np.uint32, shape.slots, _PAGE + 4 * shape.slots)

    @classmethod
    def create(cls, shape: RegionShape) -> tuple[Self, int]:
        """A new region and the descriptor by which another process attaches it; the caller closes that."""
        descriptor = os.memfd_create("rankline-slots", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(descriptor, shape.size)
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
            memory = mmap.mmap(descriptor, shape.size)
        except BaseException:
            os.close(descriptor)
            raise
        _ABOUT.pack_into(memory, 0, _MAGIC, shape.slots, shape.slot_bytes)
        return cls(memory, shape), descriptor

    @classmethod
    def attach(cls, descriptor: int) -> Self:
        """Map what another process created; the descriptor stays the caller's to close.

        Raises:
            ProtocolError: it is no such region, or its size could still change.
        """
        try:
            size = os.fstat(descriptor).st_size
            if fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & _SEALS != _SEALS:
                raise ProtocolError("the region's size is not sealed")
            memory = mmap.mmap(descriptor, size)
            magic, slots, slot_bytes = _ABOUT.unpack_from(memory, 0)
            shape = RegionShape(slots, slot_bytes)
        except (OSError, ValueError, struct.error) as error:
            raise ProtocolError(f"not a region: {error}") from None
        if magic != _MAGIC or shape.size != size:
            raise ProtocolError("not a region of this version")
        return cls(memory, shape)

    def headers_at(self, slot: int) -> int:
        """Where a slot's request header begins; its answer header is 64 bytes on."""
        return self.shape.first_slot + slot * self.shape.stride

    def payload_at(self, slot: int) -> int:
        """Where a slot's payload begins."""
        return self.headers_at(slot) + _HEADERS_BYTES


class Doorbell:
    """An eventfd that counts slot numbers put into a ring by its one writer, for the ring's one reader.

    Memory order, on any processor: the writer fills the slot, then the ring's entry, then makes the system call that adds to
    the eventfd; the reader makes the system call that takes the count, and then reads so many entries and no more, even if
    it could see further ones already. The kernel's lock around the counter makes everything written before the one call
    visible after the other. So no half-written slot is ever read, and no word of memory is polled.
    """

    def __init__(self, ring: npt.NDArray[np.uint32], descriptor: int) -> None:
        self.descriptor = descriptor
        self._ring = ring
        self._passed = 0

    def put(self, slots: Iterable[int]) -> None:
        """Hand these slots over and wake the reader. A ring has a place for every slot, so there is always room."""
        count = 0
        for slot in slots:
            self._ring[(self._passed + count) % len(self._ring)] = slot
            count += 1
        self._passed += count
        os.eventfd_write(self.descriptor, count)

    def take(self) -> list[int]:
        """The slots handed over since the last call, in order; none when nobody rang.

        Raises:
            ProtocolError: the writer keeps to no rule.
        """
        try:
            count = os.eventfd_read(self.descriptor)
        except BlockingIOError:
            return []
        length = len(self._ring)
        places = [(self._passed + place) % length for place in range(min(count, length))]
        slots: list[int] = self._ring[places].tolist()
        self._passed += count
        if count > length or max(slots) >= length:
            raise ProtocolError("slot numbers out of range")
        return slots

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self.descriptor)


def new_eventfd() -> int:
    """The descriptor of a doorbell: non-blocking, not inherited."""
    return os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
