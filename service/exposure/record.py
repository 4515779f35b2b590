r"""One line of the log: ``{"served_at":1700000000.123456,"answer":{...}}``, the answer's bytes as they went out.

The order of its two fields and the missing spaces are part of the format: the answer is everything between ``"answer":`` and
the last ``}``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import msgspec

_LINE = b'{"served_at":%.6f,"answer":%b}\n'
_HASH_BYTES = 16
_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_id = msgspec.json.Decoder(int | str).decode
_encode = msgspec.json.Encoder().encode


class UnusableAnswerError(ValueError):
    """An answer that cannot be a record: it does not stand on one line, or is not one with a user."""


def lines_of(times: Sequence[float], answers: Sequence[bytes], pseudonym: Callable[[bytes], bytes] | None) -> list[bytes]:
    """A line per answer; an empty one stands for an answer that is unusable."""
    if pseudonym is None:
        lines = [_LINE % pair for pair in zip(times, answers, strict=True)]
    else:
        lines = [_line_under_pseudonym(*pair, pseudonym) for pair in zip(times, answers, strict=True)]
    if b"".join(lines).count(b"\n") != len(lines):  # looked at all at once, since it never happens
        lines = [line if line.count(b"\n") == 1 else b"" for line in lines]
    return lines


def _line_under_pseudonym(served_at: float, answer: bytes, pseudonym: Callable[[bytes], bytes]) -> bytes:
    try:
        return _LINE % (served_at, pseudonym(answer))
    except UnusableAnswerError:
        return b""


class Pseudonym:
    """Names the user of an answer by the keyed BLAKE2b of the id: 32 hex digits, the same for 5 and "5", which are one user.

    ``key``: at most 64 bytes.
    """

    def __init__(self, key: bytes) -> None:
        self._hash = hashlib.blake2b(key=key, digest_size=_HASH_BYTES)

    def of(self, user_id: int | str) -> str:
        """The name of a user."""
        named = self._hash.copy()
        named.update(str(user_id).encode())
        return named.hexdigest()

    def __call__(self, answer: bytes) -> bytes:
        """The answer with its user so named; everything else byte for byte.

        Raises:
            UnusableAnswerError: not an object with a user.
        """
        try:
            fields = _decode(answer)
            fields["user_id"] = msgspec.Raw(_encode(self.of(_decode_id(fields["user_id"]))))
        except (msgspec.DecodeError, KeyError, UnicodeError, RecursionError):
            raise UnusableAnswerError("not an answer with a user") from None
        return _encode(fields)
