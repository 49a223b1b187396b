"""Who comes over TCP: programs that know the token, and no page in somebody's browser."""

import hmac

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from xenion.api.errors import ApiError
from xenion.xend.web.answers import RequestError, error_answer

BEARER = "bearer"
UNAUTHORIZED = {"WWW_Authenticate": 'Bearer realm="xend"', "Connection": "close"}
"""A stranger's connection takes no place for longer than it takes to say so."""


class TokenGate:
    """Lets requests with the token through to `app`."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        if not token:
            raise ValueError("an empty token would let everybody in")
        self._app = app
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        if error := self._refusal(scope["type"], headers):
            await error_answer(error)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _refusal(self, kind: str, headers: Headers) -> ApiError | None:
        if kind == "websocket" and "origin" in headers:
            message = "A console is not served to pages of a browser: the request has an Origin."
            return RequestError("forbidden", message, 403, Connection="close")
        if not self._has_token(headers.getlist("authorization")):
            message = "This needs xend's token: send it as Authorization: Bearer TOKEN (xm takes it from XEND_TOKEN)."
            return RequestError("unauthorized", message, 401, **UNAUTHORIZED)
        return None

    def _has_token(self, given: list[str]) -> bool:
        if len(given) != 1:
            return False
        scheme, _, token = given[0].partition(" ")
        return scheme.lower() == BEARER and hmac.compare_digest(token.strip().encode("latin-1"), self._token)
