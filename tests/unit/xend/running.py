"""A real xend in a process of its own, over folders of a test's own."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xenion
from xenion.api.client import Client
from xenion.api.folders import Folders
from xenion.xend.command import pid_of

PATIENCE_S = 30.0


@dataclass
class Started:
    """`said`: what it wrote for whoever started it, until it was ready or had ended."""

    process: "subprocess.Popen[bytes]"
    said: bytes

    def end(self, number: int = signal.SIGTERM) -> int:
        """Its exit status."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)


class Xend:
    """`close` ends everything that was started in its folders, domains too."""

    def __init__(self, at: Path) -> None:
        self.at = at
        self.where = Folders(at / "run" / "xenion", at / "state" / "xenion")
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("XEND_")},
            "XDG_STATE_HOME": str(at / "state"),
            "XDG_RUNTIME_DIR": str(at / "run"),
            "XDG_CONFIG_HOME": str(at / "config"),
            "PYTHONPATH": str(Path(next(iter(xenion.__path__))).resolve().parent),
        }
        self.started: list[Started] = []

    @property
    def toml(self) -> Path:
        path = self.at / "config" / "xenion" / "xend.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def begin(self, *words: str, **more: Any) -> "tuple[subprocess.Popen[bytes], int]":
        """`xend run`, and the descriptor of what it says."""
        ours, theirs = os.pipe2(os.O_CLOEXEC)
        process = subprocess.Popen(
            [sys.executable, "-m", "xenion.xend", "run", "--ready-fd", str(theirs), *words],
            pass_fds=(theirs,),
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            **more,
        )
        os.close(theirs)
        return process, ours

    def finish(self, begun: "tuple[subprocess.Popen[bytes], int]") -> Started:
        process, ours = begun
        with os.fdopen(ours, "rb") as pipe:
            started = Started(process, pipe.read())
        self.started.append(started)
        return started

    def start(self, *words: str) -> Started:
        return self.finish(self.begin(*words))

    def client(self, *, start: bool = False) -> Client:
        return Client(self.where, start=start)

    @property
    def pid(self) -> int | None:
        return pid_of(self.where)

    def environ(self, monkeypatch: Any) -> Mapping[str, str]:
        """For code of this process that looks there."""
        for name in ("XDG_STATE_HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"):
            monkeypatch.setenv(name, self.environment[name])
        return self.environment

    def left(self) -> list[int]:
        """Processes of its folders: domains, and the store, which gets no more of our environment than it needs."""
        mark = f"XDG_STATE_HOME={self.at / 'state'}".encode()
        ours = [pid for pid in _pids() if pid != os.getpid() and mark in _environment(pid)]
        return [*ours, *self.stores()]

    def stores(self) -> list[int]:
        """Those of xenstored."""
        folder = str(self.where.xenstored).encode()
        return [pid for pid in _pids() if folder in _arguments(pid)]

    def close(self) -> list[int]:
        """The processes that were left."""
        for started in self.started:
            started.process.kill()
            started.process.communicate()
        left = self.left()
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        return left


def _arguments(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return []


def wait_for_end(pid: int) -> None:
    """Of a process that is nobody's child here."""
    import select

    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([fd], [], [], PATIENCE_S)[0], f"process {pid} goes on"
    finally:
        os.close(fd)


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []
