"""The ASGI application: each action of `xenion.api.actions` at its path, answered by the handler of its name."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Route, Router, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from xenion.api.actions import ACTIONS, CHANGES, OPENAPI_PATH, PREFIX, Action
from xenion.api.errors import ApiError
from xenion.api.installed import version_of
from xenion.xend.call import Call, Handler, Handlers
from xenion.xend.web.answers import RequestError, error_answer, json_answer, refusing
from xenion.xend.web.disconnect import unless_gone
from xenion.xend.web.events import stream_events
from xenion.xend.web.limits import Limits
from xenion.xend.web.requests import body_of, parameters_of, query_of, read_body

NOT_FOUND = f"There is nothing at this path: {OPENAPI_PATH} lists what there is."
FAILED = "xend failed at this request through a mistake of its own: its log has the details."
NO_WEBSOCKET = "The console is a WebSocket: connect to it with a WebSocket client, or use `xm console`."
logger = logging.getLogger(__name__)


def make_app(handlers: Handlers, limits: Limits | None = None) -> ASGIApp:
    """Serves what `handlers` has; the scope's state holds the `peer`. KeyError: an action has no handler."""
    limits = limits or Limits()
    paths: dict[str, dict[str, ASGIApp]] = {}
    routes: list[Route | WebSocketRoute] = []
    for action in ACTIONS:
        endpoint = _Endpoint(action, handlers[action.name], limits)
        paths.setdefault(action.path, {})[action.method] = endpoint
        if action.kind == "websocket":
            routes.append(WebSocketRoute(action.path, endpoint))
    for path, page in (("/", _index), (PREFIX, _index), (OPENAPI_PATH, _openapi)):
        paths[path] = {"GET": page}
    routes += [Route(path, _Methods(methods)) for path, methods in paths.items()]
    router = Router(routes, redirect_slashes=False, default=refusing(ApiError("not-found", NOT_FOUND)))

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        """Routes the path as it was sent: a decoded slash would lead elsewhere."""
        await router({**scope, "path": scope["raw_path"].decode("ascii", "replace")}, receive, send)

    return app


class _Methods:
    """The methods of one path."""

    def __init__(self, methods: Mapping[str, ASGIApp]) -> None:
        self._methods = methods

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        endpoint = self._methods.get(scope["method"]) or self._refusing()
        await endpoint(scope, receive, send)

    def _refusing(self) -> ASGIApp:
        allowed = ", ".join(sorted(self._methods))
        return refusing(
            RequestError("method-not-allowed", f"This path takes {allowed} only.", 405, Allow=allowed)
        )


class _Endpoint:
    """One action."""

    def __init__(self, action: Action, handler: Handler, limits: Limits) -> None:
        self._action = action
        self._handler = handler
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._serve_websocket(scope, receive, send)
            return
        try:
            response = await self._respond(scope, receive, send)
        except ClientDisconnect:
            return
        except ApiError as error:
            response = error_answer(error)
        except Exception:
            logger.exception("%s failed", self._action.name)
            response = error_answer(ApiError("failed", FAILED))
        if response is not None:
            await response(scope, receive, send)

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> Response | None:
        """None: it was answered already."""
        call = self._call(scope, await read_body(scope, receive, self._limits))
        if self._action.kind == "websocket":
            raise RequestError("bad-request", NO_WEBSOCKET, 426, Upgrade="websocket", Connection="Upgrade")
        if self._action.kind == "events":
            await stream_events(await self._handler(call), receive, send, self._limits)
            return None
        if self._action.method in CHANGES:
            answer = await self._handler(call)
        else:
            answer = await unless_gone(self._handler(call), receive)
        return json_answer({} if answer is None else answer, self._action.status)

    def _call(self, scope: Scope, body: bytes) -> Call:
        parameters = parameters_of(scope)
        query = query_of(self._action, scope)
        return Call(scope["state"]["peer"], parameters, body_of(self._action, scope, body), query)

    async def _serve_websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        from xenion.xend.web.console import serve_console

        async def find() -> tuple[Path, Mapping[str, Any]]:
            call = self._call(scope, b"")
            return Path(await self._handler(call)), call.query

        await serve_console(find, scope, receive, send)


async def _index(scope: Scope, receive: Receive, send: Send) -> None:
    answer = json_answer({"name": "xend", "version": version_of("xenion"), "openapi": OPENAPI_PATH})
    await answer(scope, receive, send)


async def _openapi(scope: Scope, receive: Receive, send: Send) -> None:
    from xenion.xend.web.openapi import document

    await json_answer(document())(scope, receive, send)
