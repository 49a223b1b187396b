"""The network back end of one vif (public/io/netif.h): rings on the guest's side, a wire on the host's."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from xenion.dom0.guest import GrantError, Guest, MappedGrant, Port, PortError
from xenion.dom0.loop import Loop, Timer
from xenion.dom0.net.capture import Capture
from xenion.dom0.net.counters import Counters
from xenion.dom0.net.credit import Credit
from xenion.dom0.net.frontend import Features, QueueNodes, features_of, queues_of
from xenion.dom0.net.guard import Guard
from xenion.dom0.net.options import NetOptions
from xenion.dom0.net.packet import address_of, flow
from xenion.dom0.net.receive import SLOT_BYTES as RX_SLOT_BYTES
from xenion.dom0.net.receive import RxQueue
from xenion.dom0.net.shaping import Shaper
from xenion.dom0.net.slots import SLOT_BYTES as TX_SLOT_BYTES
from xenion.dom0.net.transmit import IDLE, TxQueue
from xenion.dom0.net.vif import MulticastFilter, Vif
from xenion.dom0.net.wire import Frame, Wire
from xenion.dom0.ring import RingError
from xenion.dom0.shared_ring import BackRing
from xenion.dom0.xenbus.backend import FrontendError

STALL_SECONDS = 10.0
"""Frames wait so long for a guest without receive buffers (xen-netback's rx_drain_timeout); then they are dropped."""
LOOK_SECONDS = 0.03
"""How often a front end is looked at that does not say when it has added buffers (no feature-rx-notify)."""


class RingMappingError(FrontendError):
    def __init__(self, cause: Exception) -> None:
        super().__init__(f"the front end's rings or event channels cannot be used: {cause}")


class _Queue:
    """A connected pair of rings."""

    def __init__(
        self, vif: Vif, nodes: QueueNodes, on_tx: Callable[[], None], on_rx: Callable[[], None]
    ) -> None:
        self._pages: list[MappedGrant] = []
        self._ports: list[Port] = []
        self._rings: list[BackRing] = []
        try:
            tx_ring, tx_page = self._ring(vif.guest, nodes.tx_ref, TX_SLOT_BYTES)
            rx_ring, rx_page = self._ring(vif.guest, nodes.rx_ref, RX_SLOT_BYTES)
            tx_port, rx_port = self._bind(vif.guest, nodes, on_tx, on_rx)
        except (GrantError, PortError) as error:
            self.close()
            raise RingMappingError(error) from error
        self.tx = TxQueue(vif, tx_ring, tx_page, tx_port)
        self.rx = RxQueue(vif, rx_ring, rx_page, rx_port)

    def _ring(self, guest: Guest, ref: int, slot_bytes: int) -> tuple[BackRing, MappedGrant]:
        page = guest.map(ref, write=True)
        self._pages.append(page)
        ring = BackRing([page.view], slot_bytes, guest.fence)
        self._rings.append(ring)
        ring.attach_as_shown()
        return ring, page

    def _bind(
        self, guest: Guest, nodes: QueueNodes, on_tx: Callable[[], None], on_rx: Callable[[], None]
    ) -> tuple[Port, Port]:
        def both() -> None:
            on_tx()
            on_rx()

        split = nodes.tx_port != nodes.rx_port
        self._ports.append(guest.bind(nodes.tx_port, on_tx if split else both))
        if split:
            self._ports.append(guest.bind(nodes.rx_port, on_rx))
        return self._ports[0], self._ports[-1]

    def close(self) -> None:
        for port in self._ports:
            port.close()
        for ring in self._rings:
            ring.close()
        for page in self._pages:
            page.unmap()
        self._ports, self._rings, self._pages = [], [], []


class NetBackend:
    """A vif of one boot; `counters` and `captures` are the vif's for longer and can be handed from one to the next.

    Frames for a guest that has no room for them stay in the wire, which holds the sender back or drops in its own
    way. No front end, or one that has not made room for STALL_SECONDS: they are dropped and counted.
    """

    kind: ClassVar[str] = "vif"

    def __init__(
        self,
        guest: Guest,
        devid: int,
        wire: Wire,
        options: NetOptions,
        loop: Loop,
        *,
        counters: Counters | None = None,
        captures: list[Capture] | None = None,
    ) -> None:
        self.devid = devid
        self.changed: Callable[[Mapping[str, str]], None] = lambda nodes: None
        self.counters = Counters() if counters is None else counters
        self.captures: list[Capture] = [] if captures is None else captures
        self._options = options
        self._loop = loop
        self._log: Callable[[str], None] = lambda sentence: None
        mac = bytes.fromhex(options.mac.replace(":", ""))
        guard = Guard(mac, options.addresses) if options.anti_spoofing else None
        credit = Credit(options.rate_bytes, options.rate_window_us, time.monotonic())
        self._vif = Vif(guest, wire, credit, guard, self.counters, self.captures)
        self._queues: list[_Queue] = []
        self._shaper = Shaper(features_of({"request-rx-copy": "1"}), options.mtu)
        self._multicast: MulticastFilter | None = None
        self._off = self._stalled = self._serving = self._notified = False
        self._left: list[Frame] = []
        self._tx_timer: Timer | None = None
        self._stall_timer: Timer | None = None
        self._look_timer: Timer | None = None
        wire.attach(self)

    def log_to(self, log: Callable[[str], None]) -> None:
        self._log = log

    def backend_nodes(self) -> Mapping[str, str]:
        options = self._options
        nodes = {"handle": str(self.devid), "mac": options.mac, "mtu": str(options.mtu), "type": "vif"}
        if options.addresses:
            nodes["ip"] = " ".join(options.addresses)
        if rate := self._vif.credit.node:
            nodes["rate"] = rate
        offered = (
            "sg", "gso-tcpv4", "gso-tcpv6", "ipv6-csum-offload", "rx-copy", "multicast-control", "split-event-channels",
        )  # fmt: skip
        nodes |= {f"feature-{name}": "1" for name in offered}
        return nodes | {"feature-rx-flip": "0", "multi-queue-max-queues": str(options.queues)}

    def frontend_nodes(self) -> Mapping[str, str]:
        return {"handle": str(self.devid), "mac": self._options.mac, "mtu": str(self._options.mtu)}

    # --- connecting

    def connect(self, front: Mapping[str, str]) -> Mapping[str, str]:
        features, nodes = features_of(front), queues_of(front, self._options.queues)
        self._vif.multicast = MulticastFilter()
        queues: list[_Queue] = []
        try:
            for each in nodes:
                queues.append(_Queue(self._vif, each, self._serve_tx, self._on_rx_event))
        except FrontendError:
            for queue in queues:
                queue.close()
            raise
        self._begin(queues, features)
        return {"hotplug-status": "connected"}

    def _begin(self, queues: list[_Queue], features: Features) -> None:
        self._queues = queues
        self._off = self._stalled = False
        self._shaper = Shaper(features, self._options.mtu)
        self._multicast = self._vif.multicast if features.multicast_control else None
        self._notified = features.rx_notify

    def disconnect(self, done: Callable[[], None]) -> None:
        self._cancel_timers()
        queues, self._queues = self._queues, []
        for queue in queues:
            queue.close()
        self._drop_left()
        self._vif.wire.resume()
        done()

    def _cancel_timers(self) -> None:
        for timer in (self._tx_timer, self._stall_timer, self._look_timer):
            if timer is not None:
                timer.cancel()
        self._tx_timer = self._stall_timer = self._look_timer = None

    def close(self) -> None:
        """The device goes, the wire stays: another back end may be attached to it already."""
        self.disconnect(lambda: None)
        self._vif.wire.detach(self)

    def _turn_off(self, error: RingError) -> None:
        """As xen-netback's xenvif_fatal_tx_err: nothing of these rings is believed any more."""
        self._off = True
        self._cancel_timers()
        self._drop_left()
        self._log(str(error))
        self._loop.soon(self._vif.wire.resume)

    def _drop_left(self) -> None:
        self.counters.rx_drops += len(self._left)
        self._left = []

    # --- changes while it runs

    def set_rate(self, bytes_per_second: int, window_us: int) -> None:
        """0: no limit."""
        self._vif.credit.set(bytes_per_second, window_us)
        self.changed({"rate": self._vif.credit.node})
        self._serve_tx()

    # --- from the guest

    def room_again(self) -> None:
        self._serve_tx()

    def _serve_tx(self) -> None:
        if self._off or self._serving:
            return
        self._serving = True
        try:
            waits = [wait for queue in self._queues if (wait := queue.tx.serve()) != IDLE]
        except RingError as error:
            self._turn_off(error)
            return
        finally:
            self._serving = False
        if 0.0 in waits:
            self._loop.soon(self._serve_tx)
        elif waits:
            self._tx_later(min(waits))

    def _tx_later(self, seconds: float) -> None:
        if self._tx_timer is not None:
            self._tx_timer.cancel()
        self._tx_timer = self._loop.later(seconds, self._serve_tx)

    # --- to the guest

    def deliver(self, frames: Sequence[Frame]) -> int:
        if not self._queues or self._off or self._stalled:
            self.counters.rx_drops += len(frames)
            return len(frames)
        try:
            taken = self._offer_all(frames)
            for queue in self._queues:
                queue.rx.flush()
        except RingError as error:
            self._turn_off(error)
            self.counters.rx_drops += len(frames)
            return len(frames)
        if taken == len(frames) and not self._left:
            self._unblock()
        else:
            self._block()
        return taken

    def _offer_all(self, frames: Sequence[Frame]) -> int:
        if self._left and not self._offer_left():
            return 0
        shape = self._shaper.shape
        for count, frame in enumerate(frames):
            if self._multicast is not None and frame.data[0] & 1 and not self._wanted(frame):
                self.counters.rx_drops += 1
                continue
            ready = shape(frame)
            if not ready:
                self.counters.rx_drops += 1
            elif ready[0] is frame:
                if not self._offer(frame):
                    return count
            else:
                self._left = ready
                if not self._offer_left():
                    self._left = [replace(left, data=memoryview(bytearray(left.data))) for left in self._left]
                    return count + 1
        return len(frames)

    def _offer_left(self) -> bool:
        """What was made of a frame that is not asked for again; whether all of it is placed."""
        for count, frame in enumerate(self._left):
            if not self._offer(frame):
                del self._left[:count]
                return False
        self._left = []
        return True

    def _offer(self, frame: Frame) -> bool:
        queues = self._queues
        if len(queues) == 1:
            return queues[0].rx.offer(frame)
        which = flow(address_of(frame.data), len(frame.data)) % len(queues)
        return queues[which].rx.offer(frame)

    def _wanted(self, frame: Frame) -> bool:
        return self._multicast is None or self._multicast.wants(bytes(frame.data[:6]))

    def _block(self) -> None:
        if self._stall_timer is None:
            self._stall_timer = self._loop.later(STALL_SECONDS, self._stall)
        if not self._notified and self._look_timer is None:
            self._look_timer = self._loop.later(LOOK_SECONDS, self._look)

    def _unblock(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None

    def _stall(self) -> None:
        """The guest does not receive: who sends to it must not wait for ever."""
        self._stall_timer = None
        self._stalled = True
        self._drop_left()
        self._vif.wire.resume()

    def _look(self) -> None:
        self._look_timer = None
        self._on_rx_event()
        if self._stalled and self._look_timer is None:
            self._look_timer = self._loop.later(LOOK_SECONDS, self._look)

    def _on_rx_event(self) -> None:
        """The guest may have added buffers."""
        if self._off or not self._queues:
            return
        if self._stalled:
            try:
                self._stalled = not all(queue.rx.ready() for queue in self._queues)
            except RingError as error:
                self._turn_off(error)
                return
        if self._left:
            self.deliver(())
        if not self._left:
            self._vif.wire.resume()
