"""Ends a connection whose client takes nothing of what is ready for it."""

import asyncio
from contextlib import suppress


def abort(transport: asyncio.Transport) -> None:
    """Ends it now. asyncio's TLS of Python 3.11 forgets what it would need for that once it was closed twice."""
    with suppress(AttributeError):
        transport.abort()


class Stuck:
    """Told when a transport's buffer holds something and when it is empty again; aborts it when nothing leaves it."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._held = 0

    def watch(self, transport: asyncio.Transport) -> None:
        """The transport tells its protocol of each byte that it cannot send at once."""
        transport.set_write_buffer_limits(high=1, low=0)  # asyncio's TLS takes 0 for always full
        self._transport = transport

    def full(self) -> None:
        if self._transport is not None:
            self.empty()
            self._held = self._transport.get_write_buffer_size()
            self._timer = asyncio.get_running_loop().call_later(self._seconds, self._check)

    def empty(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self) -> None:
        if self._transport is None:
            return
        if self._transport.get_write_buffer_size() < self._held:
            self.full()
        else:
            abort(self._transport)
