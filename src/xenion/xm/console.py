"""Stands between a domain's console and the user: copies bytes both ways and restores the terminal."""

import os
import select
import selectors
import signal
import socket
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from xenion.api.console import Attached, ConsoleError
from xenion.xm.terminal import raw_terminal

ESCAPE = b"\x1d"
"""ctrl-]"""

CHUNK = 65536
QUIET_S = 0.5
"""A domain that is over and preserved keeps its console open: so long it may still say something."""
RETURNS = 3
"""So often we come back to a console that closes before it has given a byte."""
STATUS_SIGNALLED = 128


Attach = Callable[[int | None], Attached]
"""Attaches from that byte on, or from the first one that is kept. ConsoleError, OSError."""


class Terminated(Exception):
    """We were told to end: leave the terminal as it was."""


def _raise_terminated(number: int, frame: FrameType | None) -> None:
    raise Terminated(number)


@contextmanager
def told_to_end() -> Iterator[None]:
    """Within it, SIGTERM and SIGHUP raise Terminated with their number."""
    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, _raise_terminated) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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


def _write_all(fd: int, data: bytes) -> None:
    while data:
        try:
            data = data[os.write(fd, data) :]
        except BlockingIOError:
            select.select([], [fd], [])


class Attendant:
    """One user at one console, until it closes, the domain is over (`over` is readable) or the user leaves.

    `detached`: the user has left. `signalled`: the number of the signal that ended us, or 0.
    """

    def __init__(
        self, attach: Attach, attached: Attached, over: int, input_fd: int, *, read_only: bool = False
    ) -> None:
        self._attach = attach
        self._stream = attached.stream
        self._next = attached.first
        self._over = over
        self._input_fd = input_fd
        self._pump_fd = _selectable(input_fd)
        self._read_only = read_only
        self._unsent = b""
        self._selector = selectors.DefaultSelector()
        self._is_terminal = False
        self._ending = False
        self._returns = 0
        self.detached = False
        self.signalled = 0
        self._tell_lost(attached.lost)

    def attend(self) -> None:
        """The terminal is as it was afterwards, and everything of ours is closed."""
        try:
            with told_to_end(), raw_terminal(self._input_fd) as self._is_terminal:
                self._loop()
        except Terminated as ended:
            self.signalled = int(ended.args[0])
        finally:
            self._is_terminal = False
            self._selector.close()
            self._stream.close()
            if self._pump_fd != self._input_fd:
                os.close(self._pump_fd)

    def _loop(self) -> None:
        self._watch_console()
        self._selector.register(self._over, selectors.EVENT_READ, "over")
        if self._is_terminal or not self._read_only:
            with suppress(PermissionError):  # /dev/null and its like cannot be waited for: nobody types
                self._watch_input(True)
        while not self.detached:
            ready = self._selector.select(QUIET_S if self._ending else None)
            if not self._serve(ready):
                return

    def _serve(self, ready: list[tuple[selectors.SelectorKey, int]]) -> bool:
        """False when it is over: the console has closed, or has nothing more to say."""
        going_on = bool(ready)
        for key, mask in ready:
            if key.data == "over":
                self._ending = True
                self._selector.unregister(self._over)
            elif key.data == "input":
                self._on_input()
            elif not self._on_console(mask):
                going_on = self._again()
        return going_on

    def _watch_console(self) -> None:
        mask = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._unsent else 0)
        if self._stream in self._selector.get_map():
            self._selector.modify(self._stream, mask, "console")
        else:
            self._selector.register(self._stream, mask, "console")

    def _watch_input(self, wanted: bool) -> None:
        if wanted:
            self._selector.register(self._pump_fd, selectors.EVENT_READ, "input")
        else:
            self._selector.unregister(self._pump_fd)

    # --- from the guest

    def _on_console(self, mask: int) -> bool:
        """False when the far end is closed."""
        if mask & selectors.EVENT_WRITE:
            self._send()
            if not self._unsent:
                self._watch_console()
                self._watch_input(True)
        return not mask & selectors.EVENT_READ or self._on_output()

    def _on_output(self) -> bool:
        try:
            data = self._stream.recv(CHUNK)
        except ConnectionResetError:
            return False
        self._next += len(data)
        self._returns = 0 if data else self._returns
        _write_all(sys.stdout.fileno(), data)
        return bool(data)

    def _again(self) -> bool:
        """Whether the console could be attached to where we were: it lets go of those who take too long."""
        self._selector.unregister(self._stream)
        self._stream.close()
        self._returns += 1
        if self._returns > RETURNS:
            return False
        try:
            attached = self._attach(self._next)
        except (OSError, ConsoleError):
            return False
        self._stream, self._next = attached.stream, attached.first
        self._tell_lost(attached.lost)
        self._watch_console()
        return True

    def _tell_lost(self, count: int) -> None:
        if count:
            end = "\r\n" if self._is_terminal else "\n"
            sys.stderr.write(f"xm: {count} bytes of the console are not kept any more{end}")
            sys.stderr.flush()

    # --- from the user

    def _on_input(self) -> None:
        data = os.read(self._pump_fd, CHUNK)
        if not data:  # no more input: the guest goes on, only nobody types
            self._watch_input(False)
            return
        before, escape, _ = data.partition(ESCAPE) if self._is_terminal else (data, b"", b"")
        self.detached = bool(escape)
        if self._read_only:
            return
        self._unsent = before
        self._send()
        if self._unsent:  # the guest is slow: nothing more is read until it has taken this
            self._watch_input(False)
            self._watch_console()

    def _send(self) -> None:
        try:
            self._unsent = self._unsent[self._stream.send(self._unsent, socket.MSG_DONTWAIT) :]
        except BlockingIOError:
            return
        except OSError:  # the far end is closed, as reading will tell
            self._unsent = b""
