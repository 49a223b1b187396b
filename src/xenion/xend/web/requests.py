"""What a request says, copied and checked: parameters of its path, its query, its body."""

import asyncio
import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote_to_bytes

import msgspec
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

from xenion.api.actions import Action
from xenion.api.errors import ApiError
from xenion.api.types import Nothing
from xenion.xend.web.answers import RequestError
from xenion.xend.web.limits import Limits
from xenion.xend.web.schema import MismatchError, convert

LONGEST_NAME = 64
NAME = "[A-Za-z0-9_.:+-]*[A-Za-z0-9_:+-][A-Za-z0-9_.:+-]*"
"""A domain's name, id or UUID, a task's id: at least one character is no dot."""
DEEPEST = 32
LARGEST_INTEGER = 1 << 64
QUERY_FIELDS = 64
LAST_EVENT = "last-event-id"
_NAME = re.compile(NAME)


def parameters_of(scope: Scope) -> dict[str, str]:
    """Percent-decoded, once; the path was split before, so that no decoded slash makes another path of it. ApiError."""
    return {name: _parameter(name, raw) for name, raw in scope["path_params"].items()}


_KINDS = {
    "task": "task",
    "vdev": "device",
    "device": "device",
    "capture": "device",
    "checkpoint": "checkpoint",
}


def _parameter(name: str, raw: str) -> str:
    value = unquote_to_bytes(raw).decode("utf-8", "replace")
    if len(value) <= LONGEST_NAME and _NAME.fullmatch(value):
        return value
    kind = _KINDS.get(name, "domain")
    shown = json.dumps(value[:LONGEST_NAME])
    raise ApiError(
        f"no-such-{kind}",
        f"There is no {kind} {shown}: a name has 1 to {LONGEST_NAME} letters, digits and _.:+- only.",
    )


def query_of(action: Action, scope: Scope) -> dict[str, Any]:
    """Last-Event-ID, which a browser sends when it comes again, is the `since` of a stream. ApiError."""
    try:
        text = scope["query_string"].decode("ascii")
        pairs = parse_qsl(
            text,
            keep_blank_values=True,
            strict_parsing=bool(text),
            errors="strict",
            max_num_fields=QUERY_FIELDS,
        )
    except ValueError as error:  # UnicodeDecodeError is one
        raise ApiError("bad-request", "The query is malformed: write it as NAME=VALUE&NAME=VALUE.") from error
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ApiError("bad-request", "The query has a field twice: give each once.")
    query = _converted("query", fields, action.query or Nothing, text=True)
    last = Headers(scope=scope).get(LAST_EVENT) if action.kind == "events" else None
    if last is not None:
        query |= _converted("Last-Event-ID", {"since": last}, action.query, text=True)
    return query


def body_of(action: Action, scope: Scope, data: bytes) -> dict[str, Any]:
    """An empty body is an empty object. ApiError."""
    if not data:
        return _converted("body", {}, action.body or Nothing)
    _check_type(Headers(scope=scope))
    return _converted("body", decode(data), action.body or Nothing)


def _converted(part: str, value: Any, kind: Any, *, text: bool = False) -> dict[str, Any]:
    try:
        return convert(value, kind, text=text)
    except MismatchError as error:
        raise ApiError("bad-request", f"The request's {part} is not as described: {error}.") from error


def _check_type(headers: Headers) -> None:
    """Only what a browser never sends to another site without asking there first."""
    kind, _, parameters = headers.get("content-type", "").partition(";")
    charset = parameters.replace(" ", "").lower()
    if kind.strip().lower() != "application/json" or charset not in ("", "charset=utf-8"):
        raise RequestError(
            "bad-request", "The request's body must be JSON: send Content-Type: application/json.", 415
        )


async def read_body(scope: Scope, receive: Receive, limits: Limits) -> bytes:
    """The whole body. ApiError when it is too large or too late; ClientDisconnect."""
    declared = Headers(scope=scope).get("content-length", "")
    if declared.isdecimal() and int(declared) > limits.body_bytes:
        raise _too_large(limits)
    data = bytearray()
    try:
        async with asyncio.timeout(limits.body_s):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                data += message.get("body", b"")
                if len(data) > limits.body_bytes:
                    raise _too_large(limits)
                if not message.get("more_body", False):
                    return bytes(data)
    except TimeoutError as error:
        raise ApiError(
            "timeout", f"The request's body was not complete within {limits.body_s:g} seconds."
        ) from error


def _too_large(limits: Limits) -> ApiError:
    return ApiError("too-large", f"The request's body is larger than {limits.body_bytes} bytes.")


def decode(data: bytes) -> Any:
    """Strict JSON: UTF-8, no NaN, no field twice, integers of at most 64 bits, not nested deeply. ApiError."""
    try:
        value = msgspec.json.decode(data)
        json.loads(data, object_pairs_hook=_without_duplicates, parse_int=_integer)
    except RecursionError as error:
        raise _too_deep() from error
    except ValueError as error:  # msgspec's errors, too
        raise ApiError(
            "bad-request", f"The request's body is no strict JSON: {_lower(str(error))}."
        ) from error
    _check_depth(value, DEEPEST)
    return value


def _lower(said: str) -> str:
    return said[:1].lower() + said[1:]


def _without_duplicates(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    """msgspec keeps the last of two; another reader of the same text might keep the first."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("An object has a field twice")
    return found


def _integer(text: str) -> int:
    if len(text) > len(str(LARGEST_INTEGER)) or not -LARGEST_INTEGER < int(text) < LARGEST_INTEGER:
        raise ValueError("An integer has more than 64 bits")
    return int(text)


def _check_depth(value: Any, left: int) -> None:
    if not isinstance(value, dict | list):
        return
    if not left:
        raise _too_deep()
    for part in value.values() if isinstance(value, dict) else value:
        _check_depth(part, left - 1)


def _too_deep() -> ApiError:
    return ApiError("bad-request", f"The request's body is nested more than {DEEPEST} deep.")
