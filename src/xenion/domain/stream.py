"""One attached stream at a domain's console: output to it, input from it, without ever blocking Dom0's thread."""

import os
import selectors

from xenion.dom0.console import ConsoleHub, ConsoleReader

INPUT_CHUNK = 4096


class ConsoleStream:
    """`fd` is a non-blocking socket of ours. When its far end goes, the domain goes on and its output is kept."""

    def __init__(self, hub: ConsoleHub, fd: int, selector: selectors.BaseSelector) -> None:
        self._hub = hub
        self.fd = fd
        self._selector = selector
        self._reader: ConsoleReader | None = hub.attach()
        self._unsent = self._unfed = b""
        self._mask = 0
        self._watch()

    @property
    def attached(self) -> bool:
        return self._reader is not None

    @property
    def busy(self) -> bool:
        """Output waits to be sent."""
        return self._reader is not None and bool(self._unsent or self._reader.pending)

    def flush(self) -> None:
        """Moves what it can both ways, then waits for what was in the way: the far end, or the guest."""
        if self._reader is not None:
            self._feed()
            self._send()
        if self._reader is not None:
            self._watch()

    def _send(self) -> None:
        while self._reader is not None and (self._unsent or self._reader.pending):
            data = self._unsent or self._reader.take()
            try:
                sent = os.write(self.fd, data)
            except BlockingIOError:
                sent = 0
            except OSError:
                self.detach()
                return
            self._unsent = data[sent:]
            if self._unsent:
                return

    def _feed(self) -> None:
        """What the guest has no room for stays here, and no more is read until it has."""
        if self._unfed:
            self._unfed = self._unfed[self._hub.write(self._unfed) :]

    def _watch(self) -> None:
        mask = (0 if self._unfed else selectors.EVENT_READ) | (selectors.EVENT_WRITE if self._unsent else 0)
        if mask == self._mask:
            return
        if not self._mask:
            self._selector.register(self.fd, mask)
        elif not mask:
            self._selector.unregister(self.fd)
        else:
            self._selector.modify(self.fd, mask)
        self._mask = mask

    def on_ready(self, mask: int) -> None:
        if mask & selectors.EVENT_READ and self._reader is not None:
            self._read()
        self.flush()

    def _read(self) -> None:
        try:
            data = os.read(self.fd, INPUT_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._unfed += data
        else:
            self.detach()

    def detach(self) -> None:
        """The far end has gone."""
        if self._reader is None:
            return
        self._hub.detach(self._reader)
        self._reader = None
        self._unsent = self._unfed = b""
        if self._mask:
            self._selector.unregister(self.fd)
            self._mask = 0
