"""A domain's disks and interfaces: what xend has opened for it stays here through its boots.

Each boot gets new back ends around the same resources. Everything is for Dom0's thread, but `settle`.
"""

import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from xenion.dom0.guest import Guest
from xenion.dom0.loop import Loop
from xenion.dom0.xenbus.backend import Backend
from xenion.dom0.xenbus.device import Device
from xenion.dom0.xenstore.client import StoreClient

LOOK_SECONDS = 0.5


class DeviceError(Exception):
    """A request about a device that cannot be granted; the message is for the user.

    The descriptors that came with the request have been closed.
    """


def close_all(fds: Iterable[int]) -> None:
    for fd in fds:
        os.close(fd)


@dataclass(frozen=True, slots=True)
class DeviceOrder:
    """A device as xend hands it over: `description` tells what the descriptors are, `config` is kept and given back."""

    kind: str
    """vbd or vif"""
    devid: int
    description: Mapping[str, Any]
    config: Mapping[str, Any]
    fds: Sequence[int]


class Resource(Protocol):
    """What a device has on the host's side, through all boots."""

    def backend(self, guest: Guest, devid: int) -> Backend:
        """A new back end for a boot; the one before has been forgotten."""

    def forget(self) -> None:
        """The guest has stopped and its back end has nothing of it any more: its memory goes with the back end."""

    def describe(self) -> dict[str, Any]:
        """Counters and sizes for people, as JSON."""

    def configure(self, changes: Mapping[str, Any], fds: Sequence[int]) -> dict[str, Any]:
        """From now on; the descriptors are its own. What there is to tell. DeviceError."""

    def reconnect(self, description: Mapping[str, Any], fds: Sequence[int]) -> None:
        """New connections instead of lost ones. DeviceError."""

    def standby(self, description: Mapping[str, Any], fds: Sequence[int]) -> None:
        """What `switch` will go on with; the descriptors are its own. DeviceError."""

    def switch(self) -> None:
        """The guest is held, and nothing is in flight: goes on with what stands by, if anything does. DeviceError."""

    def sync(self, then: Callable[[int], None]) -> None:
        """What the guest has written is on stable storage: `then(0)`, or an errno."""

    def announce(self) -> None:
        """Its guest goes on, perhaps on another host than before."""

    def unlock(self) -> None:
        """Another host may use it: it is left alone until `lock`."""

    def lock(self) -> None:
        """It is ours again. DeviceError."""

    def close(self) -> None:
        """Nothing is in flight."""


Make = Callable[[DeviceOrder], Resource]


class _Held:
    """One device: its resource, and its face to the guest while one runs."""

    def __init__(self, order: DeviceOrder, resource: Resource) -> None:
        self.order = order
        self.resource = resource
        self.device: Device | None = None


class Devices:
    """`makers`: how the resource of each kind is made. `gone(kind, devid)`: a device has been detached."""

    def __init__(
        self,
        loop: Loop,
        store: StoreClient,
        domid: int,
        makers: Mapping[str, Make],
        log: Callable[[str], None],
        gone: Callable[[str, int], None] = lambda kind, devid: None,
    ) -> None:
        self._loop = loop
        self._store = store
        self._domid = domid
        self._makers = makers
        self._log = log
        self._gone = gone
        self._held: dict[tuple[str, int], _Held] = {}
        self._guest: Guest | None = None
        self._stopping = 0
        self._stopped = threading.Event()
        self._stopped.set()
        self._closed = False

    def add(self, order: DeviceOrder) -> None:
        """Shown to the guest at once if one runs. DeviceError."""
        key = order.kind, order.devid
        if why_not := self._why_not(order):
            close_all(order.fds)
            raise DeviceError(why_not)
        held = self._held[key] = _Held(order, self._makers[order.kind](order))
        if self._guest is not None:
            self._show(held, self._guest)

    def _why_not(self, order: DeviceOrder) -> str:
        if self._closed:
            return "the guest has stopped for good: the domain takes no more devices"
        if (order.kind, order.devid) in self._held:
            return f"there is a {order.kind} {order.devid} already"
        return "" if order.kind in self._makers else f"there are no devices of kind {order.kind!r}"

    def _show(self, held: _Held, guest: Guest) -> None:
        backend = held.resource.backend(guest, held.order.devid)
        held.device = Device(self._store, self._domid, backend, self._log)
        held.device.start()

    # --- boots

    def boot(self, guest: Guest) -> None:
        """A guest that is about to run finds them all."""
        self._guest = guest
        for kind in self._makers:
            self._store.remove(f"/local/domain/0/backend/{kind}/{self._domid}")
        for held in self._held.values():
            self._show(held, guest)

    def resume(self, guest: Guest) -> None:
        """A guest that was saved finds them as they were."""
        self._guest = guest
        for held in self._held.values():
            held.device = Device(
                self._store, self._domid, held.resource.backend(guest, held.order.devid), self._log
            )
            held.device.resume()
            held.resource.announce()

    def hold(self, then: Callable[[str], None]) -> None:
        """`then` when none of them touches the guest's memory, until `let_go`, and what it has written is on stable
        storage, or with why not."""
        left, why_not = 1, ""

        def one_less(held: _Held | None = None, error: int = 0) -> None:
            nonlocal left, why_not
            left -= 1
            if held is not None and error:
                why_not = f"{held.order.kind} {held.order.devid}: {os.strerror(error)}"
            if not left:
                then(why_not)

        for held in list(self._held.values()):
            if held.device is not None:
                left += 1
                held.device.hold(partial(held.resource.sync, partial(one_less, held)))
        one_less()

    def let_go(self) -> None:
        for held in self._held.values():
            if held.device is not None:
                held.device.let_go()

    def switch(self) -> None:
        """Of a guest that is held: those for which something stands by go on with that. DeviceError: some do."""
        for held in self._held.values():
            held.resource.switch()

    def unlock(self) -> None:
        """Of a guest that is held: what they are on the host is for another host."""
        for held in self._held.values():
            held.resource.unlock()

    def lock(self) -> None:
        """All of them, or none. DeviceError."""
        for held in self._held.values():
            try:
                held.resource.lock()
            except DeviceError as error:
                self.unlock()
                raise DeviceError(f"{held.order.kind} {held.order.devid}: {error}") from None

    def stop(self) -> None:
        """The guest has stopped; its memory is needed until what is in flight has ended, see `settle`."""
        self._guest = None
        self._stopped.clear()
        self._stopping = 1
        for held in list(self._held.values()):  # one that is being detached is gone then
            if held.device is not None:
                device, held.device = held.device, None
                self._stopping += 1
                device.stop(partial(self._has_stopped, held.resource))
        self._one_less()

    def _has_stopped(self, resource: Resource) -> None:
        resource.forget()
        self._one_less()

    def _one_less(self) -> None:
        self._stopping -= 1
        if not self._stopping:
            self._stopped.set()

    def settle(self) -> None:
        """Another thread: returns when nothing touches the memory of the guest that has stopped."""
        while not self._stopped.wait(LOOK_SECONDS):
            if not self._loop.running:
                return

    def close(self) -> None:
        """No guest will run any more."""
        self._closed = True
        while self._held:
            _, held = self._held.popitem()
            held.resource.close()

    # --- what xend asks

    def _find(self, kind: str, devid: int) -> _Held:
        held = self._held.get((kind, devid))
        if held is None:
            raise DeviceError(f"the domain has no {kind} {devid}")
        return held

    def detach(self, kind: str, devid: int, then: Callable[[], None], *, force: bool) -> None:
        """`then` when it is gone, which may be never if the guest does not let go of it. DeviceError."""
        held = self._find(kind, devid)

        def gone() -> None:
            if self._held.get((kind, devid)) is held:
                del self._held[kind, devid]
                held.resource.close()
                self._gone(kind, devid)
            then()

        if held.device is None:
            gone()
        else:
            held.device.detach(gone, force=force)

    def configure(
        self, kind: str, devid: int, changes: Mapping[str, Any], fds: Sequence[int]
    ) -> dict[str, Any]:
        """DeviceError."""
        return self._taking(fds, kind, devid).resource.configure(changes, fds)

    def reconnect(self, kind: str, devid: int, description: Mapping[str, Any], fds: Sequence[int]) -> None:
        """DeviceError."""
        self._taking(fds, kind, devid).resource.reconnect(description, fds)

    def standby(self, kind: str, devid: int, description: Mapping[str, Any], fds: Sequence[int]) -> None:
        """DeviceError."""
        self._taking(fds, kind, devid).resource.standby(description, fds)

    def _taking(self, fds: Sequence[int], kind: str, devid: int) -> _Held:
        try:
            return self._find(kind, devid)
        except DeviceError:
            close_all(fds)
            raise

    def describe(self) -> list[dict[str, Any]]:
        """All of them, as JSON."""
        return [self._describe(held) for held in self._held.values()]

    def _describe(self, held: _Held) -> dict[str, Any]:
        device = held.device
        return {
            "kind": held.order.kind,
            "devid": held.order.devid,
            "config": dict(held.order.config),
            "state": device.state.name if device is not None else "Unknown",
            "detaching": device is not None and device.detaching,
            **held.resource.describe(),
        }
