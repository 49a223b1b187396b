"""A stream through ssh (`ssh -W`) to a xend that listens on its own host's loopback. Who may log in there may bring
domains, and nothing else of that host needs to be open. ssh has to get in without a question: with a key that xend's
user has."""

import asyncio
import os
import socket
from collections.abc import Sequence
from contextlib import suppress

from xenion.xend import helpers
from xenion.xend.logstate import clean
from xenion.xend.migration.target import Target
from xenion.xend.migration.wire import CHUNK_BYTES, CLOSING_S, Wire, WireError

LOGIN_S = 30.0
SAID_BYTES = 4096
OPTIONS = (
    "-oBatchMode=yes",
    "-oControlMaster=no",
    f"-oConnectTimeout={LOGIN_S:.0f}",
    "-oServerAliveInterval=15",
    "-oServerAliveCountMax=4",
)
"""What the command says itself counts more. A line that is dead is given up after a minute, as TCP's without ssh."""
LOOPBACK = "127.0.0.1"
_looking: set[asyncio.Task[None]] = set()


def _environment() -> dict[str, str]:
    agent = os.environ.get("SSH_AUTH_SOCK")
    return {**helpers.environment(), **({"SSH_AUTH_SOCK": agent} if agent else {})}


async def through_ssh(command: Sequence[str], target: Target) -> Wire:
    """Greeted. WireError."""
    ours, theirs = socket.socketpair()
    try:
        with theirs:
            process = await _started([*command, *OPTIONS, *_words(target)], theirs)
        reader, writer = await asyncio.open_connection(sock=ours, limit=2 * CHUNK_BYTES)
    except BaseException:
        ours.close()  # it ends then
        raise
    said = asyncio.ensure_future(_said(process))
    looks = asyncio.ensure_future(_look_after(process, writer, said))
    _looking.add(looks)
    looks.add_done_callback(_looking.discard)
    wire = Wire(reader, writer)
    try:
        await wire.greet(LOGIN_S)
    except WireError as error:
        await wire.close()
        await looks
        raise WireError(f"ssh: {said.result()}" if said.result() else str(error)) from error
    except BaseException:
        await wire.close()
        raise
    return wire


def _words(target: Target) -> Sequence[str]:
    return "-W", f"{LOOPBACK}:{target.port}", "--", target.host


async def _started(words: Sequence[str], stream: socket.socket) -> asyncio.subprocess.Process:
    """WireError."""
    try:
        return await asyncio.create_subprocess_exec(
            *words,
            stdin=stream.fileno(),
            stdout=stream.fileno(),
            stderr=asyncio.subprocess.PIPE,
            env=_environment(),
            start_new_session=True,
        )
    except OSError as error:
        raise WireError(
            f"{words[0]} cannot be run ({error.strerror}): apt-get install openssh-client"
        ) from error


async def _said(process: asyncio.subprocess.Process) -> str:
    """The last lines of its standard error: of two ssh says why in the first."""
    last = b""
    while process.stderr is not None and (data := await process.stderr.read(SAID_BYTES)):
        last = (last + data)[-SAID_BYTES:]
    lines = [line.strip() for line in last.decode(errors="replace").splitlines() if line.strip()]
    return clean("; ".join(lines[-2:]))


async def _look_after(
    process: asyncio.subprocess.Process, writer: asyncio.StreamWriter, said: "asyncio.Task[str]"
) -> None:
    """It ends when the stream is closed, and is killed if it does not."""
    with suppress(OSError):
        await writer.wait_closed()
    try:
        await asyncio.wait_for(process.wait(), CLOSING_S)
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    await said
