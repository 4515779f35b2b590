"""Request ids, many from one question to the operating system."""

from __future__ import annotations

import os

_MANY = 64
_DIGITS = 32


class RequestIds:
    """Gives 128 random bits as 32 hexadecimal digits, each once; a forked process never gives its parent's."""

    __slots__ = ("_left", "_process")

    def __init__(self) -> None:
        self._left: list[str] = []
        self._process = os.getpid()

    def __call__(self) -> str:
        """The next id."""
        left = self._left
        if not left or self._process != os.getpid():
            digits = os.urandom(_MANY * _DIGITS // 2).hex()
            left[:] = [digits[start : start + _DIGITS] for start in range(0, len(digits), _DIGITS)]
            self._process = os.getpid()
        return left.pop()
