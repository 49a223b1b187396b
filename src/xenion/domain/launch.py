"""Starts a domain process and hands back the other ends of its descriptors."""

import fcntl
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from xenion.config.domain import DomainConfig
from xenion.domain.paths import domain_folder
from xenion.domain.protocol import Event

PROCESS_LOG = "process.log"
"""What the domain process itself has to say if it dies of a bug."""


@dataclass(slots=True)
class LaunchedDomain:
    """A running domain process. `console` is a stream socket; `control` yields its events."""

    name: str
    process: subprocess.Popen[bytes]
    console: socket.socket
    control: int
    folder: Path
    _buffer: bytes = b""

    def events(self) -> Iterator[Event]:
        """Every event that has come in, without waiting beyond one read; ends when the process has closed its end."""
        data = os.read(self.control, 65536)
        self._buffer += data
        *lines, self._buffer = self._buffer.split(b"\n")
        for line in lines:
            yield Event.decode(line)
        if not data:
            raise EOFError

    def close(self) -> None:
        """Our ends; and once the process is gone, the report file that it had made ready and did not need."""
        self.console.close()
        os.close(self.control)
        if self.process.poll() is not None:
            for path in self.folder.glob("crash-*.txt"):
                if not path.stat().st_size:
                    path.unlink()


LONGEST_END_SECONDS = 5.0


class NotRunningError(Exception):
    """No domain of this name runs."""

    def __init__(self, name: str) -> None:
        super().__init__(f'no domain "{name}" is running')


class AlreadyRunningError(Exception):
    """A domain of this name runs."""

    def __init__(self, name: str) -> None:
        super().__init__(f'a domain "{name}" is running already: end it first, or give this one another name')


def _lock(folder: Path, name: str) -> int:
    """The lock of the domain's folder, which its process keeps for life."""
    fd = os.open(folder / "lock", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(fd, 0)
    except BlockingIOError:
        os.close(fd)
        raise AlreadyRunningError(name) from None
    return fd


def _pid(folder: Path, name: str) -> int:
    """The holder of the lock, who writes it down right after taking it."""
    text = (folder / "lock").read_text()
    if not text.strip().isdigit():
        raise NotRunningError(name)
    return int(text)


def destroy(name: str) -> None:
    """Ends a domain at once, whatever its guest does. NotRunningError, OSError."""
    folder = domain_folder(name)
    try:
        os.close(_lock(folder, name))
    except FileNotFoundError:
        raise NotRunningError(name) from None
    except AlreadyRunningError:
        pid = _pid(folder, name)
    else:
        raise NotRunningError(name)
    end = os.pidfd_open(pid)
    try:
        for number in (signal.SIGTERM, signal.SIGKILL):
            signal.pidfd_send_signal(end, number)
            if select.select([end], [], [], LONGEST_END_SECONDS)[0]:
                return
    finally:
        os.close(end)


def launch(config: DomainConfig) -> LaunchedDomain:
    """In a session of its own, so that it outlives the terminal. AlreadyRunningError, OSError."""
    folder = domain_folder(config.name)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock_fd = _lock(folder, config.name)
    ours, theirs = socket.socketpair()
    control, control_write = os.pipe2(os.O_CLOEXEC)
    config_fd = os.memfd_create("config")
    state_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    os.write(config_fd, config.to_json().encode())
    os.lseek(config_fd, 0, os.SEEK_SET)
    log_fd = os.open(folder / PROCESS_LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    fds = (config_fd, theirs.fileno(), control_write, state_fd)
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "xenion.domain", *map(str, fds)],
            pass_fds=(*fds, lock_fd),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log_fd,
            start_new_session=True,
        )
        os.pwrite(lock_fd, f"{process.pid}\n".encode(), 0)
    finally:
        theirs.close()
        for fd in (config_fd, control_write, state_fd, log_fd, lock_fd):
            os.close(fd)
    return LaunchedDomain(config.name, process, ours, control, folder)
