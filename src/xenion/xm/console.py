"""Stands between a domain's console and the user: copies bytes, follows the domain's events, restores the terminal."""

import os
import selectors
import signal
import socket
import stat
import sys
import threading
from contextlib import suppress
from types import FrameType

from xenion.config.domain import DomainConfig
from xenion.domain.launch import PROCESS_LOG, AlreadyRunningError, LaunchedDomain, launch
from xenion.domain.protocol import Event
from xenion.xm.errors import UsageError, XmError
from xenion.xm.terminal import raw_terminal

ESCAPE = b"\x1d"
"""ctrl-]"""

CHUNK = 65536
ENDINGS = {
    "watchdog": "was ended by its own watchdog",
    "suspend": "suspended itself, and nothing can resume it yet",
}
STATUS_SIGNALLED = 128


class Terminated(Exception):
    """We were told to end: leave the terminal as it was."""


def _raise_terminated(number: int, frame: FrameType | None) -> None:
    raise Terminated(number)


def _selectable(fd: int) -> int:
    """A plain file cannot be waited for: a thread turns it into a pipe."""
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    ours, theirs = os.pipe()

    def copy() -> None:
        with os.fdopen(theirs, "wb", buffering=0) as pipe, suppress(BrokenPipeError):
            while data := os.read(fd, CHUNK):
                pipe.write(data)

    threading.Thread(target=copy, daemon=True).start()
    return ours


class Attendant:
    """One user at the console of one domain that was just started."""

    def __init__(self, domain: LaunchedDomain, input_fd: int) -> None:
        self._domain = domain
        self._input_fd = input_fd
        self._pump_fd = _selectable(input_fd)
        self._unsent = b""
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

    def _on_input(self) -> None:
        data = os.read(self._pump_fd, CHUNK)
        if not data:  # no more input: the guest goes on, only nobody types
            self._selector.unregister(self._pump_fd)
            return
        before, escape, _ = data.partition(ESCAPE) if self._is_terminal else (data, b"", b"")
        self._unsent = before
        self._send()
        self.detached = bool(escape)
        if self._unsent:  # the guest is slow: nothing more is read until it has taken this
            self._selector.unregister(self._pump_fd)
            self._selector.modify(
                self._domain.console, selectors.EVENT_READ | selectors.EVENT_WRITE, "console"
            )

    def _send(self) -> None:
        with suppress(BlockingIOError):
            self._unsent = self._unsent[self._domain.console.send(self._unsent, socket.MSG_DONTWAIT) :]

    def _on_console(self, mask: int) -> bool:
        """False when the domain's end of the console is closed."""
        if mask & selectors.EVENT_WRITE:
            self._send()
            if not self._unsent:
                self._selector.modify(self._domain.console, selectors.EVENT_READ, "console")
                self._selector.register(self._pump_fd, selectors.EVENT_READ, "input")
        return not mask & selectors.EVENT_READ or self._on_output()

    def _on_events(self) -> None:
        for event in self._domain.events():
            if event.kind == "refused":
                self._refused = event.text
            elif event.kind == "note":
                self._say(event.text)
            elif event.kind == "ended":
                self._last = event

    def _loop(self) -> None:
        s, domain = self._selector, self._domain
        s.register(domain.console, selectors.EVENT_READ, "console")
        s.register(domain.control, selectors.EVENT_READ, "events")
        with suppress(PermissionError):  # /dev/null and its like cannot be waited for: nobody types
            s.register(self._pump_fd, selectors.EVENT_READ, "input")
        open_ends = {"console", "events"}
        while open_ends and not self.detached:
            for key, mask in s.select():
                if key.data == "input":
                    self._on_input()
                elif key.data == "console" and not self._on_console(mask):
                    open_ends.discard("console")
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
        try:
            with raw_terminal(self._input_fd) as self._is_terminal:
                self._loop()
        except Terminated as ended:
            return STATUS_SIGNALLED + int(ended.args[0])
        finally:
            self._is_terminal = False
        if self.detached:
            name = self._domain.name
            print(f'\nxm: left the console; the domain goes on; "xm destroy {name}" ends it', file=sys.stderr)
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
        if self._last.reason in ("poweroff", "reboot"):
            return 0
        raise XmError(
            f"the domain {ENDINGS.get(self._last.reason, 'crashed')}; the report is in {self._last.report}"
        )


def _status_text(status: int) -> str:
    if status == -signal.SIGSYS:
        return "it made a system call that it has no right to"
    return signal.Signals(-status).name if status < 0 else f"exit status {status}"


def attend(config: DomainConfig) -> int:
    """Starts the domain and stays at its console."""
    input_fd = sys.stdin.fileno() if sys.stdin else os.open(os.devnull, os.O_RDONLY)
    try:
        domain = launch(config)
    except AlreadyRunningError as error:
        raise UsageError(str(error)) from error
    except OSError as error:
        raise XmError(f"{error.filename}: {error.strerror}") from error
    try:
        return Attendant(domain, input_fd).attend()
    finally:
        domain.close()
