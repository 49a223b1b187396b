"""Answers as JSON, and the sentences of refusals."""

from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from xenion.api.errors import ApiError

JSON = "application/json; charset=utf-8"
_encode = msgspec.json.Encoder().encode


class RequestError(ApiError):
    """A refusal of the request's form, whose status is more precise than its code's."""

    def __init__(self, code: str, message: str, status: int, **headers: str) -> None:
        super().__init__(code, message)
        self._status = status
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    @property
    def status(self) -> int:
        return self._status


def json_answer(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer that no cache keeps. TypeError, ValueError: `value` is nothing that JSON knows."""
    return Response(_encode(value), status, {"Cache-Control": "no-store", **(headers or {})}, JSON)


def error_answer(error: ApiError) -> Response:
    headers = error.headers if isinstance(error, RequestError) else None
    return json_answer({"error": {"code": error.code, "message": error.message}}, error.status, headers)


def refusing(error: ApiError) -> ASGIApp:
    """An application that gives everybody this answer."""

    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        await error_answer(error)(scope, receive, send)

    return refuse
