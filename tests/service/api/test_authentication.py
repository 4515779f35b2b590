"""Admin tokens: nothing but the exact token passes."""

import pytest
from starlette.requests import Request

from service.api.authentication import AdminToken
from service.errors import NotAuthenticatedError

TOKEN = "a-token-long-enough"


def request_with(header: bytes | None) -> Request:
    headers = [] if header is None else [(b"authorization", header)]
    return Request({"type": "http", "headers": headers, "method": "POST", "path": "/"})


@pytest.mark.parametrize(
    "header", [b"Bearer a-token-long-enough", b"bearer a-token-long-enough", b"Bearer  a-token-long-enough "]
)
def test_the_token_passes(header):
    AdminToken(TOKEN).check(request_with(header))


@pytest.mark.parametrize(
    "header",
    [
        None,
        b"",
        b"Bearer",
        b"Bearer ",
        b"Bearer a-token-long-enoug",
        b"Bearer a-token-long-enough2",
        b"Basic a-token-long-enough",
        b"a-token-long-enough",
        b"Bearer \xe9\xff",
        b"Bearer " + b"a" * 1_000_000,
    ],
)
def test_everything_else_is_refused(header):
    with pytest.raises(NotAuthenticatedError):
        AdminToken(TOKEN).check(request_with(header))
