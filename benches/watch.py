"""Runs a program against a deadline, keeping what it prints. Nothing here waits for ever."""

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

# A whole boot with every message prints about 60 KiB: a console past this has gone wild.
MOST_OUTPUT = 8 << 20
_CHUNK = 1 << 16


class Watched:
    """A running program with no terminal, in a session of its own, killed with its session's group when left.

    `failure` says in a few words why the run is no good, or is None; times are seconds from the exec.
    """

    def __init__(self, argv: Sequence[str], limit: float, env: Mapping[str, str] | None = None) -> None:
        self.output = bytearray()
        self.failure: str | None = None
        self.ended: float | None = None
        self._limit = limit
        self._begin = time.monotonic()
        self._process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=env,
            start_new_session=True,
        )
        self._pidfd = os.pidfd_open(self._process.pid)
        assert self._process.stdout is not None
        self._stdout = self._process.stdout.fileno()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._stdout, selectors.EVENT_READ)
        self._selector.register(self._pidfd, selectors.EVENT_READ)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._selector.close()
        os.close(self._pidfd)
        # Not reaped yet, so the group's number is still ours.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    @property
    def text(self) -> str:
        """What the program printed, with plain line ends."""
        return self.output.decode(errors="replace").replace("\r", "")

    def wait_for(self, marker: bytes) -> float | None:
        """Seconds until `marker` was printed; None if the program ended or was given up before."""
        searched = 0
        while True:
            if self.output.find(marker, max(0, searched - len(marker))) >= 0:
                return time.monotonic() - self._begin
            searched = len(self.output)
            if not self._step():
                return None

    def wait_end(self) -> None:
        """Wait until the program ends; a bad exit status, or the limit, becomes the failure."""
        while self._step():
            pass
        if self.failure is None:
            self._note_status()

    def _step(self) -> bool:
        """Take in what comes next; False when the program has ended or is given up."""
        left = self._begin + self._limit - time.monotonic()
        if self.failure is not None or self.ended is not None:
            return False
        ready = {key.fd for key, _ in self._selector.select(left)} if left > 0 else set()
        if self._stdout in ready:
            return self._take()
        if self._pidfd in ready:
            self.ended = time.monotonic() - self._begin
            return False
        self.failure = f"killed: still running after {self._limit:g} s"
        return False

    def _take(self) -> bool:
        chunk = os.read(self._stdout, _CHUNK)
        self.output += chunk
        if not chunk:
            self._selector.unregister(self._stdout)
        if len(self.output) > MOST_OUTPUT:
            self.failure = f"killed: printed more than {MOST_OUTPUT >> 20} MiB"
        return self.failure is None

    def _note_status(self) -> None:
        info = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOWAIT)
        if info is None or info.si_status == 0:
            return
        how = "exit status" if info.si_code == os.CLD_EXITED else "killed by signal"
        self.failure = f"ended with {how} {info.si_status}"


def save_log(watched: Watched, path: Path) -> Path:
    """Keep the console of a run, the failure on its last line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    failure = f"\n[{watched.failure}]\n" if watched.failure else ""
    path.write_text(watched.text + failure)
    return path
