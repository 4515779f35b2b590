"""Admin tokens: compared in constant time, as bytes; without a configured token nothing is ever allowed."""

from __future__ import annotations

import hashlib
import hmac

from starlette.requests import Request

from service.errors import NotAuthenticatedError


class AdminToken:
    """Holds only the digest of the token."""

    def __init__(self, token: str) -> None:
        self._digest = hashlib.sha256(token.encode()).digest()

    def check(self, request: Request) -> None:
        """Let an admin pass.

        Raises:
            NotAuthenticatedError: no bearer token, or another one.
        """
        scheme, _, shown = request.headers.get("authorization", "").partition(" ")
        digest = hashlib.sha256(shown.strip().encode("utf-8", "surrogateescape")).digest()
        if scheme.lower() != "bearer" or not hmac.compare_digest(digest, self._digest):
            raise NotAuthenticatedError("a valid admin token is needed: Authorization: Bearer ...")
