"""A client of xend: over its Unix socket, where it is started if it does not run, or over TLS to XEND_URL."""

import http.client
import json
import os
import secrets
import select
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from xenion.api.actions import BY_NAME, Action
from xenion.api.addresses import connect
from xenion.api.errors import ApiError, UnreachableError
from xenion.api.folders import Folders, folders
from xenion.api.start import start_xend

PORT = 8006
TIMEOUT_S = 120.0
TASK_WAIT_S = 20
REPEATABLE = frozenset({"create", "start"})
"""Changes that carry a `request` word: xend knows a repetition."""
REPETITIONS = 20
"""Even if xend ends again and again, one of them may live for long enough."""
FINAL = frozenset({"done", "failed", "cancelled"})


class BrokenError(UnreachableError):
    """The connection broke before the answer was whole: what was asked for may have been done or not."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, where: Folders) -> None:
        super().__init__("xend", timeout=TIMEOUT_S)
        self._where = where

    def connect(self) -> None:
        self.sock = connect(self._where.socket, timeout=self.timeout)


class Client:
    """Calls actions by name. `start`: a local xend that does not run is started."""

    def __init__(self, where: Folders | None = None, *, start: bool = True) -> None:
        self.where = where or folders()
        self._start = start
        self.url = os.environ.get("XEND_URL", "")
        self._connection: http.client.HTTPConnection | None = None

    def reach(self) -> None:
        """Connects, without asking for anything yet. UnreachableError."""
        self._connected()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # --- calls

    def call(
        self,
        name: str,
        body: Mapping[str, Any] | None = None,
        *,
        query: Mapping[str, Any] | None = None,
        **parameters: str,
    ) -> Any:
        """The answer of an action, as its `result` type describes it. ApiError, UnreachableError, BrokenError."""
        action = BY_NAME[name]
        if name in REPEATABLE:
            body = {"request": secrets.token_hex(16), **(body or {})}
        elif action.body is not None and body is None:
            body = {}
        return self.request(
            action.method, path_of(action, parameters, query), body, repeat=_repeatable(action)
        )

    def request(self, method: str, path: str, body: Any = None, *, repeat: bool = False) -> Any:
        """Any request; what came as JSON is decoded. Errors as `call`."""
        data = None if body is None else json.dumps(body).encode()
        for attempt in range(REPETITIONS if repeat else 1):
            try:
                return self._exchange(method, path, data)
            except BrokenError:
                if attempt == REPETITIONS - 1 or not repeat:
                    raise
        raise AssertionError("no attempt was made")

    def _exchange(self, method: str, path: str, data: bytes | None) -> Any:
        response = self._send(method, path, data)
        try:
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise BrokenError(_broken(error)) from error
        if response.will_close:
            self.close()
        return _decoded(response, content)

    def _send(self, method: str, path: str, data: bytes | None) -> http.client.HTTPResponse:
        headers = {"Accept": "application/json", **_token()}
        if data is not None:
            headers["Content-Type"] = "application/json"
        connection = self._connected()
        try:
            connection.request(method, path, body=data, headers=headers)
            return connection.getresponse()
        except (ValueError, http.client.InvalidURL) as error:  # of the path, or of XEND_TOKEN
            self.close()
            raise ApiError("bad-request", f"this cannot be asked: {error}") from error
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise BrokenError(_broken(error)) from error

    # --- connecting

    def _connected(self) -> http.client.HTTPConnection:
        if self._connection is not None and _is_closed(self._connection):
            self.close()
        if self._connection is None:
            self._connection = self._remote() if self.url else self._local()
        return self._connection

    def _local(self) -> http.client.HTTPConnection:
        """The xend that was found, or started, may be just about to end: then there is another one."""
        made = _UnixConnection(self.where)
        for attempt in range(REPETITIONS):
            try:
                made.connect()
                return made
            except OSError as error:
                at = f"{self.where.socket}: {error.strerror}"
                if not self._start:
                    raise UnreachableError(f"xend does not run ({at}): start it with `xend start`") from error
                if attempt == REPETITIONS - 1:
                    raise UnreachableError(f"xend was started and cannot be reached ({at})") from error
            start_xend(self.where)
        raise AssertionError("no attempt was made")

    def _remote(self) -> http.client.HTTPConnection:
        host, port = _place(self.url)
        import ssl

        authority = os.environ.get("XEND_CA") or None
        try:
            context = ssl.create_default_context(cafile=authority)
        except OSError as error:
            raise UnreachableError(f"XEND_CA is {authority}: {error.strerror or error}") from error
        made = http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=context)
        try:
            made.connect()
        except OSError as error:
            raise UnreachableError(
                f"xend cannot be reached at {self.url}: {error.strerror or error}"
            ) from error
        return made

    def stream(self) -> tuple[socket.socket, str, dict[str, str]]:
        """A connection of its own to a remote xend, for another protocol than HTTP: the caller's; its host; headers."""
        made = self._remote()
        made.sock.settimeout(None)
        return made.sock, made.host, _token()

    # --- what takes long

    def follow(self, task: Any, tell: Callable[[Any], None] = lambda task: None) -> Any:
        """Waits for a task's end and returns it as it is then; `tell` gets it at each change. ApiError if it failed.

        An interruption (KeyboardInterrupt) is the caller's: the task goes on unless it is cancelled.
        """
        while task["state"] not in FINAL:
            tell(task)
            task = self.call("task", task=task["id"], query={"wait": TASK_WAIT_S, "seen": task["seen"]})
        tell(task)
        if task["error"]:
            raise ApiError(task["error"]["code"], task["error"]["message"])
        return task

    def events(self, since: int | None = None) -> Iterator[Any]:
        """New entries of the event log until xend ends; over a connection of its own. UnreachableError, BrokenError."""
        stream = Client(self.where, start=self._start)
        query = {} if since is None else {"since": since}
        try:
            response = stream._send("GET", path_of(BY_NAME["events"], {}, query), None)
            if response.status != http.client.OK:
                _decoded(response, response.read())
            if stream._connection is not None and stream._connection.sock is not None:
                stream._connection.sock.settimeout(None)
            yield from _entries(response)
        except (OSError, http.client.HTTPException) as error:
            raise BrokenError(_broken(error)) from error
        finally:
            stream.close()


def _entries(response: http.client.HTTPResponse) -> Iterator[Any]:
    """The data of server-sent events; a comment keeps the connection alive and means nothing."""
    data = b""
    while line := response.readline():
        if line.startswith(b"data:"):
            data += line[5:].strip()
        elif not line.strip() and data:
            yield json.loads(data)
            data = b""


def _place(url: str) -> tuple[str, int]:
    """Host and port. UnreachableError."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or PORT
        if parts.scheme == "https" and host.isprintable() and host.isascii() and host and " " not in host:
            return host, port
    except ValueError:
        pass
    raise UnreachableError(f'XEND_URL is "{url}": give it as https://HOST:PORT')


def _is_closed(connection: http.client.HTTPConnection) -> bool:
    """By xend, which had nothing to say on it: what is asked next would be lost, or done and not answered."""
    if connection.sock is None:
        return True
    look = select.poll()
    look.register(connection.sock, select.POLLIN)
    return bool(look.poll(0))


def _token() -> dict[str, str]:
    token = os.environ.get("XEND_TOKEN")
    return {"Authorization": f"Bearer {token}"} if token else {}


def path_of(action: Action, parameters: Mapping[str, str], query: Mapping[str, Any] | None = None) -> str:
    """The path of an action with its parameters and query in it, both quoted."""
    path = action.path.format(**{name: quote(value, safe="") for name, value in parameters.items()})
    return f"{path}?{urlencode(query)}" if query else path


def _repeatable(action: Action) -> bool:
    return action.method == "GET" or action.name in REPEATABLE


def _decoded(response: http.client.HTTPResponse, content: bytes) -> Any:
    try:
        value = json.loads(content) if content else None
    except ValueError as error:
        raise UnreachableError(f"what answers is not xend: HTTP status {response.status}") from error
    if response.status < http.client.BAD_REQUEST:
        return value
    failure = value.get("error") if isinstance(value, dict) else None
    if not isinstance(failure, dict):
        raise UnreachableError(f"what answers is not xend: HTTP status {response.status}")
    raise ApiError(str(failure.get("code")), str(failure.get("message")))


def _broken(error: Exception) -> str:
    why = "it took too long" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
    return f"the connection to xend broke before its answer ({why}): look with `xm list`, then try again"
