"""Stands between a domain's console and the user: copies bytes, follows the domain's events, restores the terminal."""

import os
import selectors
import signal
import sys
from contextlib import suppress
from types import FrameType

from xenion.config.domain import DomainConfig
from xenion.domain.launch import PROCESS_LOG, LaunchedDomain, launch
from xenion.domain.protocol import Event
from xenion.xm.errors import UsageError, XmError
from xenion.xm.terminal import raw_terminal

ESCAPE = b"\x1d"
"""ctrl-]"""

CHUNK = 65536
STATUS_SIGNALLED = 128


class Terminated(Exception):
    """We were told to end: leave the terminal as it was."""


def _raise_terminated(number: int, frame: FrameType | None) -> None:
    raise Terminated(number)


class Attendant:
    """One user at the console of one domain that was just started."""

    def __init__(self, domain: LaunchedDomain) -> None:
        self._domain = domain
        self._selector = selectors.DefaultSelector()
        self._last: Event | None = None
        self._refused = ""
        self._is_terminal = False
        self.detached = False

    def _say(self, text: str) -> None:
        end = "\r\n" if self._is_terminal else "\n"
        sys.stderr.write(f"xm: {text}{end}")
        sys.stderr.flush()

    def _on_output(self) -> bool:
        """False when the domain's end of the console is closed."""
        try:
            data = self._domain.console.recv(CHUNK)
        except ConnectionResetError:
            return False
        while data:
            written = os.write(sys.stdout.fileno(), data)
            if written == len(data):
                return True
            data = data[written:]
        return False

    def _on_input(self, fd: int) -> None:
        data = os.read(fd, CHUNK)
        if not data:  # no more input: the guest goes on, only nobody types
            self._selector.unregister(fd)
            return
        before, escape, _ = data.partition(ESCAPE) if self._is_terminal else (data, b"", b"")
        if before:
            self._domain.console.sendall(before)
        self.detached = bool(escape)

    def _on_events(self) -> None:
        for event in self._domain.events():
            if event.kind == "refused":
                self._refused = event.text
            elif event.kind == "note":
                self._say(event.text)
            elif event.kind == "ended":
                self._last = event

    def _loop(self, input_fd: int) -> None:
        s, domain = self._selector, self._domain
        s.register(domain.console, selectors.EVENT_READ, "output")
        s.register(domain.control, selectors.EVENT_READ, "events")
        with suppress(PermissionError):  # a plain file or /dev/null cannot be waited for: nobody types
            s.register(input_fd, selectors.EVENT_READ, "input")
        open_ends = {"output", "events"}
        while open_ends and not self.detached:
            for key, _ in s.select():
                if key.data == "input":
                    self._on_input(input_fd)
                elif key.data == "output" and not self._on_output():
                    open_ends.discard("output")
                    s.unregister(domain.console)
                elif key.data == "events":
                    try:
                        self._on_events()
                    except EOFError:
                        open_ends.discard("events")
                        s.unregister(domain.control)

    def attend(self) -> int:
        """Until the domain ends or the user leaves; the exit status. XmError, UsageError."""
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _raise_terminated)
        input_fd = sys.stdin.fileno()
        try:
            with raw_terminal(input_fd) as self._is_terminal:
                self._loop(input_fd)
        except Terminated as ended:
            return STATUS_SIGNALLED + int(ended.args[0])
        finally:
            self._is_terminal = False
        if self.detached:
            print(
                f"\nxm: left the console; the domain goes on as process {self._domain.process.pid}",
                file=sys.stderr,
            )
            return 0
        return self._outcome()

    def _outcome(self) -> int:
        status = self._domain.process.wait()
        if self._refused:
            raise UsageError(self._refused)
        if self._last is None or status < 0:
            raise XmError(
                f"the domain's process ended unexpectedly ({_status_text(status)}) and the guest with it; "
                f"see {self._domain.folder / PROCESS_LOG}"
            )
        if self._last.reason == "crash":
            raise XmError(f"the domain crashed; the report is in {self._last.report}")
        return 0


def _status_text(status: int) -> str:
    if status == -signal.SIGSYS:
        return "it made a system call that it has no right to"
    return signal.Signals(-status).name if status < 0 else f"exit status {status}"


def attend(config: DomainConfig) -> int:
    """Starts the domain and stays at its console."""
    try:
        domain = launch(config)
    except OSError as error:
        raise XmError(f"{error.filename}: {error.strerror}") from error
    try:
        return Attendant(domain).attend()
    finally:
        domain.close()
