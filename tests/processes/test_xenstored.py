"""The daemon as a process: it starts, it is killed, it comes back."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from xenion.abi.io.xs_wire import XsdSockmsgType as T
from xenion.dom0.xenstore import folder as places
from xenion.dom0.xenstore.control import StoreControl, StoreControlError, start
from xenion.dom0.xenstore.wire import Message, MessageParser, encode

UUID = "6c2e0e6e-0b60-4f0d-9f0e-7b1e4d2c3a10"


class Run:
    """A folder and the daemons that serve it, one after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = os.open(folder.parent / "log", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        self.child: subprocess.Popen[bytes] | None = None

    def start(self) -> "subprocess.Popen[bytes]":
        self.child = start(self.folder, self.log)
        return self.child

    def control(self) -> StoreControl:
        return StoreControl.connect(self.folder / places.CONTROL)

    def kill(self) -> None:
        assert self.child is not None
        self.child.kill()
        self.child.wait()

    def said(self) -> str:
        return (self.folder.parent / "log").read_text()

    def close(self) -> None:
        if self.child is not None:
            self.kill()
        os.close(self.log)


class Client:
    """A blocking client."""

    def __init__(self, stream: socket.socket) -> None:
        self.stream = stream
        stream.settimeout(60)
        self.events: list[bytes] = []
        self._parser = MessageParser()

    @classmethod
    def of(cls, run: Run) -> "Client":
        return cls(places.connect(run.folder / places.SOCKET, socket.SOCK_STREAM, 60))

    def says(self, kind: int, payload: bytes, tx: int = 0) -> bytes:
        self.stream.sendall(encode(Message(kind, 1, tx, payload)))
        while (message := self.next()).type == T.WATCH_EVENT:
            self.events.append(message.payload)
        return b"!" + message.payload[:-1] if message.type == T.ERROR else message.payload

    def next(self) -> Message:
        while (message := self._parser.take()) is None:
            data = self.stream.recv(1 << 16)
            if not data:
                raise EOFError
            self._parser.push(data)
        return message

    def drained(self) -> None:
        """Until the daemon hangs up: EOFError or ConnectionError."""
        while True:
            self.next()

    def told(self) -> list[bytes]:
        """The events that have come so far."""
        self.says(T.GET_DOMAIN_PATH, b"0\0")
        events, self.events = self.events, []
        return events

    def close(self) -> None:
        self.stream.close()


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    made = Run(tmp_path / "run")
    yield made
    made.close()


def test_it_serves_until_it_is_told_to_stop(run: Run) -> None:
    child = run.start()
    client = Client.of(run)
    assert client.says(T.WRITE, b"/a\0value") == b"OK\0"
    assert run.folder.stat().st_mode & 0o777 == 0o700
    modes = {path.name: path.stat().st_mode & 0o777 for path in run.folder.iterdir()}
    assert modes == dict.fromkeys((places.SOCKET, places.CONTROL, places.STATE, places.LOCK), 0o600)
    assert int((run.folder / places.LOCK).read_text()) == child.pid
    with run.control() as control:
        control.stop()
    assert child.wait(60) == 0
    client.close()
    assert {path.name for path in run.folder.iterdir()} == {places.STATE, places.LOCK}
    run.start()
    client = Client.of(run)
    assert client.says(T.READ, b"/a\0") == b"value"
    client.close()
    assert run.said() == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order(run: Run, number: signal.Signals) -> None:
    child = run.start()
    child.send_signal(number)
    assert child.wait(60) == 0
    assert not (run.folder / places.SOCKET).exists()
    assert run.said() == ""


def test_only_one_serves_a_folder(run: Run) -> None:
    child = run.start()
    with pytest.raises(StoreControlError, match=f"used by another xenstored, process {child.pid}"):
        start(run.folder, run.log)
    client = Client.of(run)
    assert client.says(T.READ, b"/tool/xenstored\0") == b""
    client.close()


def test_a_damaged_state_is_refused_with_a_sentence(run: Run) -> None:
    run.start()
    run.kill()
    state = run.folder / places.STATE
    data = bytearray(state.read_bytes())
    data[20] ^= 1
    state.write_bytes(data)
    with pytest.raises(StoreControlError, match="damaged at byte"):
        run.start()
    assert "damaged at byte" in run.said()
    assert "Traceback" not in run.said()


def test_wrong_usage_exits_with_2() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "xenion.dom0.xenstore"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, "--folder" in done.stderr) == (2, True)


def test_killed_it_comes_back_with_all_that_it_acknowledged(run: Run) -> None:
    run.start()
    with run.control() as control:
        guest, process = map(Client, control.introduce(5, UUID))
        home = b"/local/domain/5"
        for kind, payload in (
            (T.WRITE, home + b"/name\0guest"),
            (T.SET_PERMS, home + b"\0n0\0r5\0"),
            (T.MKDIR, home + b"/data\0"),
            (T.SET_PERMS, home + b"/data\0n5\0"),
            (T.WATCH, b"/local/domain/0/backend/vbd/5\0back\0"),
        ):
            assert process.says(kind, payload) == b"OK\0"
        assert guest.says(T.WATCH, b"data\0mine\0") == b"OK\0"
        tx = int(guest.says(T.TRANSACTION_START, b"\0")[:-1])
        assert guest.says(T.WRITE, b"data/never\0", tx) == b"OK\0"
        assert guest.says(T.WRITE, b"data/kept\0value") == b"OK\0"
    run.kill()
    for client in (guest, process):
        with pytest.raises((EOFError, ConnectionError)):
            client.drained()
        client.close()
    run.start()
    with run.control() as control:
        assert control.list() == ({"domid": 5, "uuid": UUID, "connected": False},)
        dom0 = Client.of(run)
        assert dom0.says(T.IS_DOMAIN_INTRODUCED, b"5\0") == b"T\0"
        assert dom0.says(T.READ, home + b"/data/kept\0") == b"value"
        assert dom0.says(T.GET_PERMS, home + b"/data/kept\0") == b"n5\0"
        assert dom0.says(T.READ, home + b"/data/never\0") == b"!ENOENT"
        dom0.close()
        guest, process = map(Client, control.introduce(5, UUID))
        assert control.list() == ({"domid": 5, "uuid": UUID, "connected": True},)
        told = guest.told()
        assert told[0] == b"data\0mine\0"
        assert b"data/kept\0mine\0" in told
        assert process.told() == [b"/local/domain/0/backend/vbd/5\0back\0"]
        assert guest.says(T.TRANSACTION_END, b"T\0", tx) == b"!ENOENT"
        assert guest.says(T.WATCH, b"data\0mine\0") == b"!EEXIST"
        control.release(5)
        assert control.list() == ()
    guest.close()
    process.close()


def test_killed_at_any_moment_no_acknowledged_write_is_lost(run: Run) -> None:
    """A client that writes without a pause is cut off in the middle; what it was told of is there."""
    acknowledged = 0
    for turn in range(5):
        run.start()
        client = Client.of(run)
        for number in range(acknowledged):
            assert client.says(T.READ, b"/n/%d\0" % number) == b"%d" % number
        batch = b"".join(
            encode(Message(T.WRITE, 1, 0, b"/n/%d\0%d" % (number, number)))
            for number in range(acknowledged, acknowledged + 300)
        )
        client.stream.sendall(batch)
        for _ in range(20 * (turn + 1)):
            assert client.next().payload == b"OK\0"
            acknowledged += 1
        run.kill()
        try:
            while client.next().payload == b"OK\0":
                acknowledged += 1
        except (EOFError, ConnectionError):
            pass
        client.close()
    assert acknowledged >= 300


def test_it_runs_with_the_rights_that_are_listed(run: Run) -> None:
    child = run.start()
    fields = dict(
        line.split(":\t")
        for line in Path(f"/proc/{child.pid}/status").read_text().splitlines()
        if ":\t" in line
    )
    if "not restricted" in run.said():
        pytest.skip(run.said().strip())
    assert fields["Seccomp"] == "2"


def test_it_ends_when_nobody_is_connected_any_more(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    with (tmp_path / "log").open("wb") as log:
        child = start(folder, log.fileno(), idle_s=0.05)
    with StoreControl.connect(folder / places.CONTROL) as control:
        guest, process = control.introduce(1, "11111111-2222-3333-4444-555555555555")
    with guest, process, pytest.raises(subprocess.TimeoutExpired):
        child.wait(0.5)  # a domain is there
    assert child.wait(20) == 0
