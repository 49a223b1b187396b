"""Domain processes as the host shows them: how one is started, which one is a domain's, and its end."""

import asyncio
import os
import signal
import sys
from pathlib import Path

PROGRAM = (sys.executable, "-m", "xenion.domain")
MOMENT_S = 0.01


def command(order: int, uuid: str) -> list[str]:
    """`order`: the descriptor that the program reads first; the UUID is there to know the process by."""
    return [*PROGRAM, str(order), uuid]


def is_of(pid: int, uuid: str) -> bool:
    """Whether this process is the domain's."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return PROGRAM[-1].encode() in words and uuid.encode() in words


def find(uuid: str) -> int | None:
    """The domain's process, for when nobody has written it down."""
    pids = (int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal())
    return next((pid for pid in pids if is_of(pid, uuid)), None)


def kill(pid: int | None, uuid: str) -> bool:
    """Whether the domain's process was there to be killed."""
    process = _opened(pid)
    if process is None or pid is None:
        return False
    try:
        if not is_of(pid, uuid):  # asked once it is open: now the number cannot come to mean another one
            return False
        signal.pidfd_send_signal(process, signal.SIGKILL)
    except ProcessLookupError:
        return False
    finally:
        os.close(process)
    return True


async def wait(pid: int | None, seconds: float) -> None:
    """Until the process has ended, or so long; for a moment at least, so that who asks again lets others run."""
    process = _opened(pid)
    if process is None:
        await asyncio.sleep(min(seconds, MOMENT_S))
        return
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(process, ended.set)
    try:
        await asyncio.wait_for(ended.wait(), seconds)
    except TimeoutError:
        return
    finally:
        loop.remove_reader(process)
        os.close(process)


def _opened(pid: int | None) -> int | None:
    """A pidfd, the caller's; None: there is no such process."""
    try:
        return None if pid is None else os.pidfd_open(pid)
    except ProcessLookupError:
        return None


def status_text(status: int) -> str:
    """A process's end for people; empty for an ordinary one."""
    if status == -signal.SIGSYS:
        return "it made a system call that it has no right to"
    if status < 0:
        return _signal_name(-status)
    return "" if status in (0, 1, 2) else f"exit status {status}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
