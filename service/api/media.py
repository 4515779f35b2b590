"""What a request's headers say about its body and the wanted answer, read in one pass."""

from __future__ import annotations

from collections.abc import Iterable

from service.errors import BodyUnreadableError

JSON = b"application/json"
BINARY = b"application/vnd.rankline.rank.v1"


def body_media(headers: Iterable[tuple[bytes, bytes]], binary: bytes | None = None) -> tuple[bytes, bool]:
    """The body's media type (``JSON``, or ``binary`` where that is taken, too), and whether the answer may be ``binary``.

    Of a header that stands twice the first counts.

    Raises:
        BodyUnreadableError: the body is of another type, or compressed.
    """
    content_type = content_encoding = accept = None
    for name, value in headers:
        if name == b"content-type" and content_type is None:
            content_type = value
        elif name == b"accept" and accept is None:
            accept = value
        elif name == b"content-encoding" and content_encoding is None:
            content_encoding = value
    if content_type != JSON:
        content_type = _essence(content_type or b"")
        if content_type != JSON and (binary is None or content_type != binary):
            raise BodyUnreadableError("send the header Content-Type: application/json", unsupported_media=True)
    if content_encoding is not None and content_encoding.lower() != b"identity":
        raise BodyUnreadableError("compressed bodies are not accepted", unsupported_media=True)
    wants_binary = binary is not None and accept is not None and binary in map(_essence, accept.split(b","))
    return content_type, wants_binary


def _essence(value: bytes) -> bytes:
    """A media type without its parameters. Header bytes are Latin-1, and so are its spaces."""
    return value.decode("latin-1").partition(";")[0].strip().lower().encode("latin-1", "replace")
