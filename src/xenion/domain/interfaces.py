"""A network interface's side on the host, in the domain's process: its wire, its rate, who listens in."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from xenion.dom0.guest import Guest
from xenion.dom0.loop import Loop
from xenion.dom0.net.announce import announcement
from xenion.dom0.net.backend import NetBackend
from xenion.dom0.net.capture import Capture
from xenion.dom0.net.counters import Counters
from xenion.dom0.net.options import NetOptions, WireOptions
from xenion.dom0.net.stream_wire import StreamWire
from xenion.dom0.net.wire import Frame
from xenion.dom0.net.wires import make_wire
from xenion.domain.devices import DeviceError, DeviceOrder, close_all

CAPTURES = 8
ANNOUNCED_S = (0.0, 0.1, 0.4)


class InterfaceResource:
    """`lost(why)` is called when the other end has gone."""

    def __init__(self, order: DeviceOrder, loop: Loop, lost: Callable[[str], None]) -> None:
        self._loop = loop
        self._options = NetOptions.of(order.description["options"])
        self._wire = make_wire(WireOptions.of({**order.description["wire"], "fd": order.fds[0]}), loop)
        self._wire.on_lost = lost
        self._peer = order.description["peer"]
        self._counters = Counters()
        self._captures: list[Capture] = []
        self._named: dict[int, Capture] = {}
        self._rate = self._options.rate_bytes, self._options.rate_window_us
        self._backend: NetBackend | None = None
        self._closed = False

    def backend(self, guest: Guest, devid: int) -> NetBackend:
        self._backend = NetBackend(
            guest,
            devid,
            self._wire,
            self._options,
            self._loop,
            counters=self._counters,
            captures=self._captures,
        )
        if self._rate != (self._options.rate_bytes, self._options.rate_window_us):
            self._backend.set_rate(*self._rate)
        return self._backend

    def forget(self) -> None:
        if self._backend is not None:
            self._backend.close()
            self._backend = None

    def describe(self) -> dict[str, Any]:
        return {"peer": self._peer, "rate": list(self._rate), **self._counters.as_dict()}

    def configure(self, changes: Mapping[str, Any], fds: Sequence[int]) -> dict[str, Any]:
        """`rate` [bytes a second, window in us]; `capture` {"id", "snap"}, to a descriptor; `stop_capture` ID."""
        if "rate" in changes:
            self._rate = tuple(changes["rate"])
            if self._backend is not None:
                self._backend.set_rate(*self._rate)
        if "capture" in changes:
            self._begin_capture(changes["capture"], fds)
        if "stop_capture" in changes:
            return self._end_capture(changes["stop_capture"])
        return {}

    def _begin_capture(self, what: Mapping[str, Any], fds: Sequence[int]) -> None:
        if len(self._captures) >= CAPTURES:
            self._end_those_over()
        if len(self._captures) >= CAPTURES:
            close_all(fds)
            raise DeviceError(f"the interface has {CAPTURES} captures already: stop one")
        capture = self._named[what["id"]] = Capture(fds[0], what["snap"])
        self._captures.append(capture)

    def _end_those_over(self) -> None:
        for name in [name for name, capture in self._named.items() if capture.over]:
            self._end_capture(name)

    def _end_capture(self, name: int) -> dict[str, Any]:
        capture = self._named.pop(name, None)
        if capture is None:
            raise DeviceError(f"the interface has no capture {name}")
        self._captures.remove(capture)
        capture.close()
        return {"packets": capture.frames, "dropped": capture.drops}

    def reconnect(self, description: Mapping[str, Any], fds: Sequence[int]) -> None:
        if not isinstance(self._wire, StreamWire):
            close_all(fds)
            raise DeviceError("the interface has no connection that could be replaced")
        self._wire.reconnect(fds[0])

    def standby(self, description: Mapping[str, Any], fds: Sequence[int]) -> None:
        close_all(fds)
        raise DeviceError("an interface has nothing that could stand by for it")

    def switch(self) -> None:
        """There is nothing to switch to."""

    def sync(self, then: Callable[[int], None]) -> None:
        then(0)

    def announce(self) -> None:
        """To its network's switches, some times: a frame may be lost."""
        for seconds in ANNOUNCED_S:
            self._loop.later(seconds, self._say_where)

    def _say_where(self) -> None:
        if not self._closed:
            self._wire.send([Frame(announcement(self._options.mac))])

    def unlock(self) -> None:
        """No host keeps it from another one."""

    def lock(self) -> None:
        """As `unlock`."""

    def close(self) -> None:
        self._closed = True
        self.forget()
        self._wire.close()
        for capture in self._captures:
            capture.close()
