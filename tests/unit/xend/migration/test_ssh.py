"""Streams through a program that stands in for ssh; the real one is in tests/system/test_migrate_ssh.py."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.descriptors import descriptors
from tests.unit.xend.kit import run, within
from xenion.xend.migration import ssh
from xenion.xend.migration.connecting import Connector
from xenion.xend.migration.target import Target
from xenion.xend.migration.wire import GREETING, MAGIC, VERSION, Wire, WireError
from xenion.xend.settings import Migration

HELLO = GREETING.pack(MAGIC, VERSION)
CARRIES = """
import os, socket, sys, threading
open(FOLDER + "/words", "w").write("\\n".join(sys.argv[1:]))
open(FOLDER + "/pid", "w").write(str(os.getpid()))
host, port = sys.argv[sys.argv.index("-W") + 1].split(":")
far = socket.create_connection((host, int(port)))
def up():
    while data := os.read(0, 1 << 16):
        far.sendall(data)
    far.shutdown(socket.SHUT_WR)
threading.Thread(target=up, daemon=True).start()
while data := far.recv(1 << 16):
    os.write(1, data)
"""
REFUSES = """
import sys
sys.stderr.write("Warning: something\\nadmin@there: Permission denied (publickey).\\n")
sys.exit(255)
"""
HANGS = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(FOLDER + "/pid", "w").write(str(os.getpid()))
while True:
    time.sleep(60)
"""


@pytest.fixture
def connector(tmp_path: Path) -> Iterator[Callable[[str], Connector]]:
    """With a program for ssh; nothing is left of it."""
    before = descriptors()

    def made(program: str) -> Connector:
        path = tmp_path / "ssh.py"
        path.write_text(f"FOLDER = {str(tmp_path)!r}\n{program}")
        return Connector(Migration(ssh=(sys.executable, str(path), "-F", "file")))

    yield made
    assert len(descriptors()) <= len(before)
    pid = tmp_path / "pid"
    assert not pid.exists() or not Path(f"/proc/{pid.read_text()}").exists()


@asynccontextmanager
async def listening(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[int]:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield int(server.sockets[0].getsockname()[1])


async def ended() -> None:
    """All programs that were started."""
    await within(asyncio.gather(*ssh._looking))


async def no_children() -> None:
    """Returns when none is left."""
    while Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text():
        await asyncio.sleep(0.01)


async def echoes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
    writer.close()


def test_through_it(connector: Callable[[str], Connector], tmp_path: Path) -> None:
    async def work() -> None:
        async with listening(echoes) as port:
            wire = await within(connector(CARRIES).connect(Target("-oadmin@there", port, ssh=True)))
            assert isinstance(wire, Wire)
            data = os.urandom(1 << 20)
            sending = asyncio.ensure_future(wire.send(b"D", data))
            assert (await within(wire.receive())).data == data
            await sending
            await wire.close()
            await ended()
        words = (tmp_path / "words").read_text().split("\n")
        assert words[:2] == ["-F", "file"], "its own options come first"
        assert "-oBatchMode=yes" in words
        assert words[-4:] == ["-W", f"127.0.0.1:{port}", "--", "-oadmin@there"]

    run(work)


def why(connector: Connector, port: int = 1) -> str:
    async def work() -> str:
        with pytest.raises(WireError) as caught:
            await within(connector.connect(Target("there", port, ssh=True)))
        await ended()
        return str(caught.value)

    return str(run(work))


def test_it_does_not_get_in(connector: Callable[[str], Connector]) -> None:
    assert why(connector(REFUSES)) == "ssh: Warning: something; admin@there: Permission denied (publickey)."


def test_it_says_nothing(connector: Callable[[str], Connector]) -> None:
    assert why(connector("")).startswith("the connection ")


def test_it_hangs(connector: Callable[[str], Connector], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is killed."""
    monkeypatch.setattr(ssh, "LOGIN_S", 1.0)
    monkeypatch.setattr(ssh, "CLOSING_S", 0.1)
    assert why(connector(HANGS)) == "it does not answer"


def test_nobody_listens_there(connector: Callable[[str], Connector]) -> None:
    assert "Connection refused" in why(connector(CARRIES))


def test_there_is_no_ssh() -> None:
    said = why(Connector(Migration(ssh=("/nowhere/ssh",))))
    assert said == "/nowhere/ssh cannot be run (No such file or directory): apt-get install openssh-client"


def test_another_program_there(connector: Callable[[str], Connector]) -> None:
    async def work() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 400 Bad Request\r\n")
            await reader.read()
            writer.close()

        async with listening(serve) as port:
            with pytest.raises(WireError, match="nothing of Xenion's listens there"):
                await within(connector(CARRIES).connect(Target("there", port, ssh=True)))
            await ended()

    run(work)


def test_cancelled(connector: Callable[[str], Connector], tmp_path: Path) -> None:
    async def work() -> None:
        made = connector(HANGS)
        connecting = asyncio.ensure_future(made.connect(Target("there", 1, ssh=True)))
        while not (tmp_path / "pid").exists():
            await asyncio.sleep(0.01)
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await within(connecting)
        await ended()

    run(work)


@pytest.mark.parametrize("step", ["create_subprocess_exec", "open_connection"])
def test_cancelled_before_anything_is_said(
    connector: Callable[[str], Connector], monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Whatever was opened by then is closed, and what was started has ended."""

    async def cancelled(*_: object, **__: object) -> None:
        raise asyncio.CancelledError

    async def work() -> None:
        made = connector(CARRIES)
        with monkeypatch.context() as patched:
            patched.setattr(asyncio, step, cancelled)
            with pytest.raises(asyncio.CancelledError):
                await made.connect(Target("there", 1, ssh=True))
        await ended()
        await within(no_children())

    run(work)


def test_its_agent_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", "/run/agent")
    monkeypatch.setenv("SECRET", "x")
    found = ssh._environment()
    assert (found["SSH_AUTH_SOCK"], "SECRET" in found) == ("/run/agent", False)
    monkeypatch.delenv("SSH_AUTH_SOCK")
    assert "SSH_AUTH_SOCK" not in ssh._environment()
