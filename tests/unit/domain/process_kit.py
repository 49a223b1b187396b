"""A real domain process, started as xend starts one, and a xend that is nothing but its end of the control socket."""

import json
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.system import build
from xenion.api import console
from xenion.api.addresses import bind, connect
from xenion.config.domain import DomainConfig
from xenion.dom0.loop import Loop
from xenion.dom0.xenstore.connection import Connection
from xenion.dom0.xenstore.server import XenstoreServer
from xenion.dom0.xenstore.store import Store
from xenion.domain.devices import DeviceOrder
from xenion.domain.order import Descriptors, Order, in_memory
from xenion.domain.process import EXIT_REFUSED

DOMID = 7
UUID = "11111111-2222-3333-4444-555555555555"
PATIENCE_S = 60.0
MEMORY_MIB = 16
PACKET_BYTES = 1 << 16


def kernel(end: str, words: str = "", *, times: int = 1) -> Path:
    """Of a few instructions: prints `words`, `times` over, and does `end`, a label of kernels/tiny.S."""
    if build.compiler() is None:
        pytest.skip("no C compiler to build the kernels with: install gcc, or name one in CC")
    return build.tiny_kernel(end, words, times=times)


class Xend:
    """One connection to the control socket."""

    def __init__(self, stream: socket.socket) -> None:
        self.stream = stream
        self.hello: dict[str, Any] = {}
        """Empty: the process had ended before it heard of this connection."""
        try:
            with suppress(EOFError):
                self.hello = self.message()
        except BaseException:
            self.close()
            raise
        self.told: list[dict[str, Any]] = []
        """What came unasked, progress and figures."""
        self._number = 0

    def message(self) -> dict[str, Any]:
        """The next packet; EOFError at the end."""
        try:
            packet = self.stream.recv(PACKET_BYTES)
        except ConnectionResetError:
            packet = b""
        if not packet:
            raise EOFError
        return dict(json.loads(packet))

    def begin(self, word: str, *, fds: Sequence[int] = (), **fields: Any) -> int:
        """Asks, and does not wait; the request's number."""
        self._number += 1
        packet = json.dumps({"id": self._number, "do": word, **fields}).encode()
        socket.send_fds(self.stream, [packet], list(fds))
        return self._number

    def answer(self, number: int) -> dict[str, Any]:
        while True:
            message = self.message()
            if message.get("id") == number and not {"progress", "figures"} & message.keys():
                return message
            self.told.append(message)

    def ask(self, word: str, *, fds: Sequence[int] = (), **fields: Any) -> dict[str, Any]:
        return self.answer(self.begin(word, fds=fds, **fields))

    def done(self, word: str, *, fds: Sequence[int] = (), **fields: Any) -> dict[str, Any]:
        """An answer that has to be no error."""
        answer = self.ask(word, fds=fds, **fields)
        assert "done" in answer, answer
        return dict(answer["done"])

    def refused(self, word: str, *, fds: Sequence[int] = (), **fields: Any) -> str:
        answer = self.ask(word, fds=fds, **fields)
        assert "error" in answer, answer
        return str(answer["error"])

    def close(self) -> None:
        self.stream.close()


class Started:
    """A domain process in `folder`: its files there are control.sock, console.sock, journal, log, report, core."""

    def __init__(self, folder: Path, process: "subprocess.Popen[bytes]") -> None:
        self.folder = folder
        self.process = process
        self.xenstored: Xenstored
        self.xend = Xend(_control(folder / "control.sock", process))
        assert self.xend.hello or self.end() == EXIT_REFUSED, (folder / "process.log").read_text()

    def another_xend(self) -> Xend:
        found = Xend(connect(self.folder / "control.sock", socket.SOCK_SEQPACKET, timeout=PATIENCE_S))
        assert found.hello
        return found

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    @property
    def report(self) -> str:
        return (self.folder / "report").read_text()

    def entries(self) -> list[dict[str, Any]]:
        """The journal as far as whole lines go."""
        lines = (self.folder / "journal").read_bytes().split(b"\n")[:-1]
        return [json.loads(line) for line in lines]

    def kinds(self) -> list[str]:
        return [entry["kind"] for entry in self.entries() if entry["kind"] != "note"]

    def notes(self) -> str:
        return "\n".join(entry["text"] for entry in self.entries() if entry["kind"] == "note")

    def entry(self, kind: str) -> dict[str, Any]:
        """The last one of its kind."""
        return [entry for entry in self.entries() if entry["kind"] == kind][-1]

    def until(self, kind: str, count: int = 1) -> dict[str, Any]:
        """Waits for the journal's `count`th entry of the kind: xend is told of each."""
        while [entry["kind"] for entry in self.entries()].count(kind) < count:
            self.xend.told.append(self.xend.message())
        return self.entry(kind)

    def end(self) -> int:
        """Waits for the process's end: the exit status."""
        return self.process.wait(PATIENCE_S)

    def attach(self, since: int | None = None, *, read_only: bool = False) -> console.Attached:
        attached = console.attach(self.folder / "console.sock", since, read_only=read_only)
        attached.stream.settimeout(PATIENCE_S)
        return attached

    def new_file(self, name: str) -> int:
        return os.open(self.folder / name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def memories(self) -> int:
        """Guest memories that the process has mapped."""
        return Path(f"/proc/{self.process.pid}/maps").read_text().count("/memfd:xenion-guest")

    def descriptors(self) -> list[str]:
        """What is open in it, by what it leads to."""
        return sorted(_targets(Path(f"/proc/{self.process.pid}/fd")))

    def until_armed(self) -> None:
        """Its guest runs, and it has no rights any more."""
        pytest.importorskip("pyseccomp", exc_type=ImportError)
        self.until("running")
        status = Path(f"/proc/{self.process.pid}/status")
        self.wait_for(lambda: "Seccomp:\t2" in status.read_text())

    def wait_for(self, what: Callable[[], bool]) -> None:
        """For what is only to be seen from outside; the control socket's turns pass the time."""
        deadline = time.monotonic() + PATIENCE_S
        while not what():
            assert time.monotonic() < deadline
            self.xend.ask("trim", through=0)

    def close(self) -> None:
        self.xend.close()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(PATIENCE_S)


def _targets(links: Path) -> Iterator[str]:
    for link in links.iterdir():
        with suppress(FileNotFoundError):
            yield str(link.readlink())


def configuration(kernel: Path, **values: Any) -> DomainConfig:
    return DomainConfig(
        **{"name": "guest", "kernel": kernel, "uuid": UUID, "memory_mib": MEMORY_MIB, **values}
    )


class Xenstored:
    """A store on a thread of this process. Killed and started again it has what it had, and nobody is connected."""

    def __init__(self, domid: int = DOMID) -> None:
        self._loop = Loop()
        self._store = Store()
        self._server = XenstoreServer(self._loop, self._store)
        self._domid = domid
        self._loop.start(lambda: None)

    def _do(self, action: Callable[[], None]) -> None:
        assert self._loop.call_and_wait(action)

    @contextmanager
    def connections(self) -> Iterator[tuple[int, int]]:
        """New ones for the domain: as the guest, as its back ends."""
        guest, back_ends = socket.socketpair(), socket.socketpair()
        self._do(lambda: self._server.introduce(self._domid, UUID, guest[1], back_ends[1]))
        with guest[0], back_ends[0]:
            yield guest[0].fileno(), back_ends[0].fileno()

    def kill(self) -> None:
        """What it has not said by now it never says."""

        def kill() -> None:
            for channel in list(self._server._channels):
                channel.close()
            self._server = XenstoreServer(self._loop, self._store)

        self._do(kill)

    def read(self, path: str) -> bytes | None:
        found: list[bytes | None] = []

        def read() -> None:
            node = self._store.tree.get(path)
            found.append(None if node is None else node.value)

        self._do(read)
        return found[0]

    def write(self, path: str, value: bytes) -> None:
        """As domain 0's clients."""
        self._do(lambda: self._store.write(Connection(0), path, value))

    def remove(self, path: str) -> None:
        """As `write`."""
        self._do(lambda: self._store.remove(Connection(0), path))

    def close(self) -> None:
        self._do(self._server.close)
        self._loop.stop()
        self._loop.close()


@contextmanager
def start(
    folder: Path,
    config: DomainConfig,
    *,
    paused: bool = False,
    constants: str = "",
    devices: Sequence[DeviceOrder] = (),
    saved: int = -1,
    arriving: bool = False,
) -> Iterator[Started]:
    """`constants`: statements that are run in the process before its main, such as "process.STUCK_S = 0"; `saved`,
    `arriving`: as the order has them."""
    with closing(Xenstored()) as xenstored, ExitStack() as opened:
        with xenstored.connections() as connections:
            about = {"paused": paused, "devices": tuple(devices), "arriving": arriving}
            started = opened.enter_context(_start(folder, config, connections, constants, saved, about))
        started.xenstored = xenstored
        yield started


@contextmanager
def _start(
    folder: Path,
    config: DomainConfig,
    connections: tuple[int, int],
    constants: str,
    saved: int,
    about: dict[str, Any],
) -> Iterator[Started]:
    with ExitStack() as opened:
        kernel = os.open(config.kernel, os.O_RDONLY | os.O_CLOEXEC)
        opened.callback(os.close, kernel)
        control = opened.enter_context(bind(folder / "control.sock", socket.SOCK_SEQPACKET))
        console_socket = opened.enter_context(bind(folder / "console.sock"))
        guest, back_ends = connections
        files = {}
        for name in ("journal", "log", "report", "core", "lock"):
            append = 0 if name == "core" else os.O_APPEND
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | append
            files[name] = os.open(folder / name, flags, 0o600)
            opened.callback(os.close, files[name])
        fds = Descriptors(
            control=control.fileno(),
            console=console_socket.fileno(),
            kernel=kernel,
            ramdisk=-1,
            store_guest=guest,
            store_back_ends=back_ends,
            saved=saved,
            **files,
        )
        made = Order(config, DOMID, UUID, fds=fds, **about)
        order = in_memory(made.to_json())
        opened.callback(os.close, order)
        program = ["-m", "xenion.domain"]
        if constants:
            names = "console_log, console_server, dumps, journal, machine, process"
            text = f"import sys; from xenion.domain import {names}\n{constants}\n"
            program = ["-c", f"{text}from xenion.domain.main import run; run(sys.argv)"]
        stderr = opened.enter_context((folder / "process.log").open("wb"))
        process = subprocess.Popen(
            [sys.executable, *program, str(order)],
            pass_fds=(order, *made.numbers()),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            start_new_session=True,
        )
    try:
        started = Started(folder, process)
    except BaseException:
        process.kill()
        process.wait(PATIENCE_S)
        raise
    try:
        yield started
    finally:
        started.close()


def _control(path: Path, process: "subprocess.Popen[bytes]") -> socket.socket:
    """Connected as soon as it listens; one of which nothing is heard if it has refused and ended by then."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return connect(path, socket.SOCK_SEQPACKET, timeout=PATIENCE_S)
        except ConnectionRefusedError:
            if process.poll() == EXIT_REFUSED:
                mine, others = socket.socketpair()
                others.close()
                return mine
            assert process.poll() is None, (path.parent / "process.log").read_text()
            assert time.monotonic() < deadline
            select.select([], [], [], 0.005)


def read_all(stream: socket.socket) -> bytes:
    """Until the far end closes."""
    data = b""
    while True:
        try:
            more = stream.recv(1 << 16)
        except ConnectionResetError:
            return data
        if not more:
            return data
        data += more


def read_until(stream: socket.socket, end: bytes) -> bytes:
    data = b""
    while not data.endswith(end):
        more = stream.recv(1 << 16)
        assert more, f"only {data!r} came"
        data += more
    return data
