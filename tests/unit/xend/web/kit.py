"""A real web server in a thread, with handlers that only write down what they are asked, and raw clients of it."""

import asyncio
import http.client
import json
import socket
import ssl
import threading
import types
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from xenion.api.actions import ACTIONS
from xenion.api.addresses import bind, connect
from xenion.xend.call import Call, Handler
from xenion.xend.web.app import make_app
from xenion.xend.web.limits import Limits
from xenion.xend.web.server import WebServer

TOKEN = "kingfisher-87"
PATIENCE_S = 20.0


def sample(kind: Any) -> Any:
    """Some value of the type."""
    origin = get_origin(kind)
    if origin in (Annotated, NotRequired):
        return sample(get_args(kind)[0])
    if origin is Literal:
        return get_args(kind)[0]
    if origin in (Union, types.UnionType):
        return None if type(None) in get_args(kind) else sample(get_args(kind)[0])
    if origin is list:
        return [sample(get_args(kind)[0])]
    if origin is dict:
        return {"memory": 96}
    if is_typeddict(kind):
        return {name: sample(hint) for name, hint in get_type_hints(kind, include_extras=True).items()}
    return {str: "some", int: 3, float: 0.5, bool: True}[kind]


@dataclass
class Fakes:
    """A handler for each action; `with_` replaces some."""

    calls: list[tuple[str, Call]] = field(default_factory=list)
    replaced: dict[str, Handler] = field(default_factory=dict)

    def handlers(self) -> dict[str, Handler]:
        return {action.name: self._handler(action.name, action.result, action.kind) for action in ACTIONS}

    def _handler(self, name: str, result: Any, kind: str) -> Handler:
        async def handle(call: Call) -> Any:
            self.calls.append((name, call))
            if name in self.replaced:
                return await self.replaced[name](call)
            return _two_entries(result) if kind == "events" else sample(result)

        return handle

    @property
    def last(self) -> Call:
        return self.calls[-1][1]


async def _two_entries(kind: Any) -> AsyncIterator[Any]:
    for n in (1, 2):
        yield {**sample(kind), "n": n}


class Serving:
    """A WebServer that runs in a thread of its own."""

    def __init__(self, folder: Path, fakes: Fakes, limits: Limits, context: ssl.SSLContext | None) -> None:
        self.path = folder / "xend.sock"
        self.fakes = fakes
        self.port = 0
        self._context = context
        self._limits = limits
        self._ready = threading.Event()
        self._stop = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run)
        self.complaints: list[dict[str, Any]] = []
        """What asyncio's loop had to complain of; there should be nothing."""

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.set_exception_handler(lambda _, context: self.complaints.append(context))
        try:
            self._loop.run_until_complete(self._main())
        finally:
            self._loop.close()
            self._ready.set()

    async def _main(self) -> None:
        self.server = WebServer(make_app(self.fakes.handlers(), self._limits), self._limits)
        await self.server.listen_unix(bind(self.path))
        if self._context:
            ((_, self.port),) = await self.server.listen_tcp("127.0.0.1", 0, self._context, TOKEN)
        self._ready.set()
        await self._stop.wait()
        await self.server.close()

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(PATIENCE_S)

    def stop(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """In the server's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_S)

    def until(self, condition: Callable[[], bool]) -> None:
        """Lets the server's loop turn until it holds."""

        async def turn() -> None:
            async with asyncio.timeout(PATIENCE_S):
                while not condition():
                    await asyncio.sleep(0.001)

        self.run(turn())

    # --- clients

    def connect(self) -> socket.socket:
        return connect(self.path, timeout=PATIENCE_S)

    def talk(self, data: bytes) -> bytes:
        """Sends and returns all that comes until the server closes."""
        with self.connect() as client:
            client.sendall(data)
            return read_all(client)

    @contextmanager
    def http(self) -> Iterator[http.client.HTTPConnection]:
        made = http.client.HTTPConnection("xend", timeout=PATIENCE_S)
        made.sock = self.connect()
        try:
            yield made
        finally:
            made.close()

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> "Answer":
        """`body`: bytes as they are, anything else as JSON."""
        with self.http() as client:
            return ask(client, method, path, body, **headers)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    value: Any

    @property
    def refusal(self) -> tuple[int, str]:
        return self.status, self.value["error"]["code"]


def ask(
    client: http.client.HTTPConnection, method: str, path: str, body: Any = None, **headers: str
) -> Answer:
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if data is not None:
        sent.setdefault("Content-Type", "application/json")
    client.request(method, path, data, sent)
    response = client.getresponse()
    content = response.read()
    return Answer(response.status, response.headers, json.loads(content) if content else None)


def read_all(client: socket.socket) -> bytes:
    found = b""
    while data := client.recv(65536):
        found += data
    return found


def head_of(answer: bytes) -> bytes:
    return answer.partition(b"\r\n")[0]
