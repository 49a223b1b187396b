"""Domain processes as the host shows them. What a process could forge, such as its command line, is trusted only for
one that nobody has written down: xend was killed between starting it and writing its identity into its record."""

import asyncio
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

PROGRAM = (sys.executable, "-m", "xenion.domain")
MOMENT_S = 0.01
_STATE, _STARTED = 0, 19
"""Fields 3 and 22 of /proc/PID/stat, counted from the one behind the command's name (proc_pid_stat(5))."""


def command(order: int, uuid: str) -> list[str]:
    """`order`: the descriptor that the program reads first; the UUID is there to know the process by."""
    return [*PROGRAM, str(order), uuid]


@dataclass(frozen=True, slots=True)
class Process:
    """A process, told from every other one of its number by when it began: clock ticks since the host's start."""

    pid: int
    began: int

    @classmethod
    def of(cls, pid: int) -> "Process | None":
        fields = _stat(pid)
        return None if fields is None else cls(pid, int(fields[_STARTED]))

    @property
    def alive(self) -> bool:
        """False for a zombie, too."""
        fields = _stat(self.pid)
        return fields is not None and int(fields[_STARTED]) == self.began and fields[_STATE] not in ("Z", "X")

    def _open(self) -> int | None:
        """A pidfd, the caller's; None: it is no more."""
        try:
            opened = os.pidfd_open(self.pid)
        except OSError:
            return None
        if self.alive:  # asked once it is open: now the number cannot come to mean another one
            return opened
        os.close(opened)
        return None

    def kill(self) -> bool:
        """Whether it was there to be killed."""
        return self.send(signal.SIGKILL)

    def send(self, number: signal.Signals) -> bool:
        """Whether it was there to get the signal. PermissionError: it is not ours."""
        opened = self._open()
        if opened is None:
            return False
        try:
            signal.pidfd_send_signal(opened, number)
        except ProcessLookupError:
            return False
        finally:
            os.close(opened)
        return True

    async def wait(self, seconds: float) -> None:
        """Until it has ended, or so long; for a moment at least, so that who asks again lets others run."""
        opened = self._open()
        if opened is None:
            await moment(seconds)
            return
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(opened, ended.set)
        try:
            await asyncio.wait_for(ended.wait(), seconds)
        except TimeoutError:
            return
        finally:
            loop.remove_reader(opened)
            os.close(opened)


async def moment(seconds: float) -> None:
    """A short while, but no longer than `seconds`."""
    await asyncio.sleep(min(seconds, MOMENT_S))


def find(uuid: str) -> Process | None:
    """The domain's process by its command line, for when nobody has written it down."""
    pids = (int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal())
    return next((Process.of(pid) for pid in pids if _has_command_of(pid, uuid)), None)


def _has_command_of(pid: int, uuid: str) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return PROGRAM[-1].encode() in words and uuid.encode() in words


def _stat(pid: int) -> list[str] | None:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].decode().split()
    except OSError:
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
