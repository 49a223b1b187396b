"""A xend for the tests of xm: it answers what it is told to, over a real Unix socket, and remembers what was asked."""

import http.server
import json
import re
import socket
import socketserver
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from xenion.api.actions import ACTIONS, Action
from xenion.api.addresses import bind
from xenion.api.errors import ApiError


class Broken(Exception):
    """An answer: the connection is closed before there is one."""


@dataclass(frozen=True, slots=True)
class Asked:
    action: str
    parameters: dict[str, str]
    query: dict[str, str]
    body: Any


Answer = Any
"""What is sent as JSON; an exception is raised; a function is called with the Asked; a Series is used up."""


class Series(list[Answer]):
    """One answer after the other; the last one again and again."""


class Stream(list[Any]):
    """Server-sent events; then the connection closes."""


@dataclass
class FakeXend:
    """`answers` by the action's name; `asked` is everything that came."""

    path: Path
    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.close_connections()
        self._thread.join()
        self._server.server_close()

    def asked_for(self, action: str) -> list[Asked]:
        return [asked for asked in self.asked if asked.action == action]

    def actions(self) -> list[str]:
        return [asked.action for asked in self.asked]

    def answer(self, asked: Asked) -> Any:
        self.asked.append(asked)
        if asked.action not in self.answers:
            raise ApiError("not-found", f"the test has no answer for {asked.action}")
        answer = self.answers[asked.action]
        if isinstance(answer, Series):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        if callable(answer):
            answer = answer(asked)
        if isinstance(answer, Exception):
            raise answer
        return answer


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    block_on_close = True

    def __init__(self, fake: FakeXend) -> None:
        self.fake = fake
        self.connections: set[socket.socket] = set()
        super().__init__(str(fake.path), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = bind(fake.path)
        self.socket.listen(16)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no error; any other makes the test fail."""
        if not isinstance(sys.exc_info()[1], OSError):
            raise

    def close_connections(self) -> None:
        for connection in list(self.connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        self.server.connections.add(self.request)
        super().setup()

    def finish(self) -> None:
        self.server.connections.discard(self.request)
        super().finish()

    def log_message(self, *args: Any) -> None:
        pass

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        content = self.rfile.read(length)
        try:
            answer = self.server.fake.answer(self._asked(json.loads(content) if content else None))
        except Broken:
            self.close_connection = True
        except ApiError as error:
            self._send(error.status, {"error": {"code": error.code, "message": error.message}})
        else:
            self._stream(answer) if isinstance(answer, Stream) else self._send(200, answer)

    do_GET = do_POST = do_PUT = do_DELETE = _serve

    def _asked(self, body: Any) -> Asked:
        parts = urlsplit(self.path)
        for action in ACTIONS:
            if action.method == self.command and (found := _pattern(action).fullmatch(parts.path)):
                parameters = {name: unquote(value) for name, value in found.groupdict().items()}
                return Asked(action.name, parameters, dict(parse_qsl(parts.query)), body)
        raise ApiError("not-found", f"there is no {self.command} {parts.path}")

    def _send(self, status: int, value: Any) -> None:
        content = json.dumps(value).encode()
        try:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
        except OSError:
            self.close_connection = True

    def _stream(self, entries: Stream) -> None:
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        for entry in entries:
            self.wfile.write(f": still here\n\ndata: {json.dumps(entry)}\n\n".encode())
        self.close_connection = True


def _pattern(action: Action) -> re.Pattern[str]:
    return re.compile(
        re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", re.escape(action.path).replace(r"\{", "{").replace(r"\}", "}"))
    )


# --- what xend would say


def domain(name: str = "web", domid: int | None = 1, **values: Any) -> dict[str, Any]:
    return {
        "name": name,
        "domid": domid,
        "uuid": f"uuid-of-{name}",
        "state": "running",
        "reason": "",
        "memory_mib": 128,
        "maxmem_mib": 256,
        "vcpus": 1,
        "cpu_seconds": 12.34,
        "started_at": 1000.0,
        "uptime_seconds": 3725.5,
        "boots": 1,
        "managed": False,
        "autostart": False,
        "processor": "software",
        "pid": 4321,
        "folder": f"/state/{name}",
        "console": "/nowhere/console.sock",
        "config": {"kernel": "/boot/vmlinuz", "notes": ["one", "two"]},
        **values,
    }


def host(**values: Any) -> dict[str, Any]:
    return domain("Domain-0", 0, **{"memory_mib": 1024, "vcpus": 2, "console": "", "pid": None, **values})


def task(state: str = "done", **values: Any) -> dict[str, Any]:
    return {
        "id": "t1",
        "action": "create",
        "domain": "web",
        "state": state,
        "step": "building the domain",
        "progress": None,
        "figures": {},
        "result": {},
        "error": None,
        "started_at": 0.0,
        "seconds": 0.0,
        "seen": 0,
        **values,
    }


def outcome(reason: str = "poweroff", **values: Any) -> dict[str, Any]:
    return {
        "uuid": "uuid-of-web",
        "over": True,
        "reason": reason,
        "action": "destroy",
        "report": "",
        "core": "",
        "status": "",
        "notes": [],
        **values,
    }


def vcpu(name: str = "web", domid: int = 1, **values: Any) -> dict[str, Any]:
    return {
        "name": name,
        "domid": domid,
        "vcpu": 0,
        "cpu": 1,
        "state": "running",
        "cpu_seconds": 5.0,
        "affinity": "any",
        **values,
    }


def disk(vdev: str = "xvda", **values: Any) -> dict[str, Any]:
    return {
        "vdev": vdev,
        "devid": 51712,
        "target": "/srv/web.qcow2",
        "format": "qcow2",
        "mode": "w",
        "cdrom": False,
        "overlay": False,
        "state": "connected",
        "size_bytes": 10 << 30,
        "sector_bytes": 512,
        "limit_bytes": 0,
        "limit_requests": 0,
        "rd_req": 7,
        "wr_req": 8,
        "rd_bytes": 4096,
        "wr_bytes": 8192,
        "errors": 0,
        **values,
    }


def disks(*found: dict[str, Any], name: str = "web", domid: int | None = 1) -> dict[str, Any]:
    return {"name": name, "domid": domid, "disks": list(found)}


def interface(devid: int = 0, **values: Any) -> dict[str, Any]:
    return {
        "devid": devid,
        "mac": f"00:16:3e:00:00:{devid:02x}",
        "attachment": "user",
        "network": "",
        "addresses": [],
        "rate_bytes": 0,
        "name": "",
        "state": "connected",
        "forwards": [],
        **dict.fromkeys(("rx_bytes", "rx_packets", "rx_drops", "tx_bytes", "tx_packets", "tx_drops"), 5),
        "description": "passt",
        **values,
    }


def interfaces(*found: dict[str, Any], name: str = "web", domid: int | None = 1) -> dict[str, Any]:
    return {"name": name, "domid": domid, "interfaces": list(found)}


INFO = {
    "host": "box",
    "release": "6.1",
    "version": "#1",
    "machine": "x86_64",
    "nr_cpus": 2,
    "cpu_model": "A CPU",
    "cpu_mhz": 2000.0,
    "total_memory_mib": 4096,
    "free_memory_mib": 1000,
    "domains": 2,
    "processor": "software",
    "processor_notes": ["first", "second"],
    "xen_major": 4,
    "xen_minor": 17,
    "xen_caps": "xen-3.0-x86_64",
    "xenion_version": "0.1.0",
    "xend_pid": 77,
    "xend_started_at": 0.0,
    "xend_socket": "/run/xend.sock",
    "xenstore_socket": None,
    "run_folder": "/run/xenion",
    "state_folder": "/var/lib/xenion",
}


def no_domain(name: str = "web") -> ApiError:
    return ApiError("no-such-domain", f'there is no domain of the name "{name}"')


class FakeConsole:
    """A domain's console: `accept` gives the next client's stream after the greeting, `wishes` what they said."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._listener = bind(path)
        self._listener.listen(4)
        self._listener.settimeout(20)
        self.wishes: list[Any] = []

    def hear(self) -> socket.socket:
        """The next client's stream; it waits for an answer."""
        stream, _ = self._listener.accept()
        stream.settimeout(20)
        line = b""
        while not line.endswith(b"\n"):
            line += stream.recv(1)
        self.wishes.append(json.loads(line))
        return stream

    def accept(self, first: int = 0, lost: int = 0) -> socket.socket:
        stream = self.hear()
        stream.sendall(json.dumps({"first": first, "lost": lost}).encode() + b"\n")
        return stream

    def refuse(self, why: str) -> None:
        stream, _ = self._listener.accept()
        stream.recv(4096)
        stream.sendall(json.dumps({"error": why}).encode() + b"\n")
        stream.close()

    def close(self) -> None:
        """Nobody listens any more."""
        self._listener.close()


class Gate:
    """An answer that is given when the test says so."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer
        self._open = threading.Event()

    def open(self) -> None:
        self._open.set()

    def __call__(self, asked: Asked) -> Any:
        self._open.wait(20)
        return self._answer
