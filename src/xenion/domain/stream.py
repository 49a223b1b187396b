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
        self._unsent = b""
        selector.register(fd, selectors.EVENT_READ)

    @property
    def attached(self) -> bool:
        return self._reader is not None

    @property
    def busy(self) -> bool:
        """Output waits to be sent."""
        return self._reader is not None and bool(self._unsent or self._reader.pending)

    def flush(self) -> None:
        """Sends what there is until the far end takes no more; then its becoming writable is waited for."""
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
                self._watch(selectors.EVENT_READ | selectors.EVENT_WRITE)
                return
        if self._reader is not None:
            self._watch(selectors.EVENT_READ)

    def _watch(self, mask: int) -> None:
        if self._selector.get_key(self.fd).events != mask:
            self._selector.modify(self.fd, mask)

    def on_ready(self, mask: int) -> None:
        if mask & selectors.EVENT_WRITE:
            self.flush()
        if mask & selectors.EVENT_READ and self._reader is not None:
            self._read()

    def _read(self) -> None:
        try:
            data = os.read(self.fd, INPUT_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._hub.write(data)
        else:
            self.detach()

    def detach(self) -> None:
        """The far end has gone."""
        if self._reader is not None:
            self._hub.detach(self._reader)
            self._selector.unregister(self.fd)
            self._reader, self._unsent = None, b""
