"""A netif front end in a few lines, over a FakeGuest; and wires that a test holds in its hand."""

import struct
from collections.abc import Callable, Sequence
from typing import Any

from tests.unit.dom0.fake_guest import FakeGuest
from xenion.abi.io import netif
from xenion.dom0.loop import Loop
from xenion.dom0.net.options import NetOptions
from xenion.dom0.net.wire import Frame, Sink, Unclaimed, ignore_loss

PAGE = 4096
MAC = "00:16:3e:00:00:01"
MAC_BYTES = bytes.fromhex(MAC.replace(":", ""))
OTHER_MAC = bytes.fromhex("00163e0000ff")
REQUEST, RESPONSE = struct.Struct("<IHHHH"), struct.Struct("<Hh")
RX_REQUEST, RX_RESPONSE = struct.Struct("<HHI"), struct.Struct("<HHHh")
FEATURES = {
    "request-rx-copy": "1",
    "feature-rx-notify": "1",
    "feature-sg": "1",
    "feature-gso-tcpv4": "1",
    "feature-gso-tcpv6": "1",
    "feature-ipv6-csum-offload": "1",
}


def options(**changes: object) -> NetOptions:
    return NetOptions.of({"mac": MAC, "anti_spoofing": False, **changes})


def gso_extra(mss: int, kind: int = netif.XEN_NETIF_GSO_TYPE_TCPV4, more: int = 0) -> bytes:
    return struct.pack("<BBHBBH4x", netif.XEN_NETIF_EXTRA_TYPE_GSO, more, mss, kind, 0, 0)


class Ring:
    """The front end's half of one ring in one page."""

    def __init__(self, page: bytearray, slot_bytes: int) -> None:
        self.page = page
        self.slot_bytes = slot_bytes
        self.size = 256
        self.req_prod = self.rsp_cons = 0
        struct.pack_into("<IIII", page, 0, 0, 1, 0, 1)

    def put(self, slot: bytes) -> None:
        at = 64 + (self.req_prod % self.size) * self.slot_bytes
        self.page[at : at + len(slot)] = slot
        self.req_prod += 1

    def show(self) -> None:
        struct.pack_into("<I", self.page, 0, self.req_prod & 0xFFFFFFFF)

    def taken(self, size: int) -> list[bytes]:
        """New responses, `size` bytes of each; asks to be told of the next."""
        (produced,) = struct.unpack_from("<I", self.page, 8)
        responses = []
        while self.rsp_cons != produced:
            at = 64 + (self.rsp_cons % self.size) * self.slot_bytes
            responses.append(bytes(self.page[at : at + size]))
            self.rsp_cons += 1
        struct.pack_into("<I", self.page, 12, (self.rsp_cons + 1) & 0xFFFFFFFF)
        return responses


class FrontQueue:
    """Rings, a page for each slot, and event channels. Frames: 2 for the rings, then 20 and 256."""

    TX_PAGES = 20

    def __init__(self, guest: FakeGuest, index: int, ports: tuple[int, int], first_ref: int) -> None:
        base = len(guest.frames)
        guest.frames += [bytearray(PAGE) for _ in range(2 + self.TX_PAGES + 256)]
        self.guest = guest
        self.index = index
        self.ports = ports
        self.ref = first_ref
        self.tx = Ring(guest.frames[base], 12)
        self.rx = Ring(guest.frames[base + 1], 8)
        for number in range(2 + self.TX_PAGES + 256):
            guest.grant(first_ref + number, base + number, write=not 2 <= number < 2 + self.TX_PAGES)
        guest.unbound |= set(ports)
        self.base = base
        self.posted = 0

    # --- transmit

    def tx_ref(self, page: int) -> int:
        return self.ref + 2 + page

    def send(self, data: bytes, flags: int = 0, extras: Sequence[bytes] = (), chunk: int = PAGE) -> None:
        """One packet, over as many pages as it needs."""
        pieces = [data[i : i + chunk] for i in range(0, len(data), chunk)] or [b""]
        for number, piece in enumerate(pieces):
            self.guest.frames[self.base + 2 + number][: len(piece)] = piece
            more = netif.NETTXF_more_data if number + 1 < len(pieces) else 0
            first = (flags | (netif.NETTXF_extra_info if extras else 0)) if not number else 0
            size = len(piece) if number else len(data)
            self.tx.put(REQUEST.pack(self.tx_ref(number), 0, more | first, number, size))
            if not number:
                for extra in extras:
                    self.tx.put(extra)
        self.tx.show()

    def kick(self) -> None:
        for port in set(self.ports):
            self.guest.event(port)

    def answers(self) -> list[tuple[int, int]]:
        return [RESPONSE.unpack(raw) for raw in self.tx.taken(4)]

    # --- receive

    def post(self, count: int) -> None:
        for _ in range(count):
            slot = self.posted % 256
            self.rx.put(RX_REQUEST.pack(slot, 0, self.ref + 2 + self.TX_PAGES + slot))
            self.posted += 1
        self.rx.show()

    def buffer(self, slot: int) -> bytearray:
        return self.guest.frames[self.base + 2 + self.TX_PAGES + slot]

    def received(self) -> list[tuple[bytes, int, tuple[int, int] | None]]:
        """(frame, flags of the first slot, (mss, GSO type) or None) of each."""
        place = self.rx.rsp_cons
        raw = self.rx.taken(8)
        frames = []
        at = 0
        while at < len(raw):
            gso, flags_first, data = None, None, b""
            more = True
            while more:
                ident, offset, flags, status = RX_RESPONSE.unpack(raw[at])
                assert ident == (place + at) % 256, "a response in another slot than its request"
                assert status >= 0
                data += self.buffer(ident)[offset : offset + status]
                at += 1
                if flags_first is None:
                    flags_first = flags
                    if flags & netif.NETRXF_extra_info:
                        kind, rest, mss, gso_type = struct.unpack_from("<BBHB", raw[at])
                        assert (kind, rest) == (netif.XEN_NETIF_EXTRA_TYPE_GSO, 0)
                        gso = (mss, gso_type)
                        at += 1
                more = bool(flags & netif.NETRXF_more_data)
            frames.append((data, (flags_first or 0) & ~netif.NETRXF_more_data, gso))
        return frames


class FrontEnd:
    """`queues` of them; `nodes` are what it writes to the store."""

    def __init__(self, guest: FakeGuest, queues: int = 1, *, split: bool = True, **features: str) -> None:
        self.guest = guest
        self.queues = []
        self.nodes = {**FEATURES, **{name.replace("_", "-"): value for name, value in features.items()}}
        if queues > 1:
            self.nodes["multi-queue-num-queues"] = str(queues)
        for index in range(queues):
            ports = (10 + 2 * index, 11 + 2 * index if split else 10 + 2 * index)
            queue = FrontQueue(guest, index, ports, 1000 * (index + 1))
            self.queues.append(queue)
            below = f"queue-{index}/" if queues > 1 else ""
            self.nodes |= {f"{below}tx-ring-ref": str(queue.ref), f"{below}rx-ring-ref": str(queue.ref + 1)}
            if split:
                self.nodes |= {
                    f"{below}event-channel-{way}": str(p) for way, p in zip(("tx", "rx"), ports, strict=True)
                }
            else:
                self.nodes[f"{below}event-channel"] = str(ports[0])

    @property
    def queue(self) -> FrontQueue:
        return self.queues[0]


class FakeWire:
    """Keeps what it is sent; the test delivers by hand, as a wire would."""

    def __init__(self, *, offload: bool = False, big: bool = True) -> None:
        self.offload = offload
        self.big = big
        self.room = True
        self.on_lost: Callable[[str], None] = ignore_loss
        self.sink: Sink = Unclaimed()
        self.sent: list[tuple[bytes, bool, int, int]] = []
        self.waiting: list[Frame] = []
        self.dead = False

    def attach(self, sink: Sink | None) -> None:
        self.sink = sink or Unclaimed()

    def detach(self, sink: Sink) -> None:
        if self.sink is sink:
            self.attach(None)

    def send(self, frames: Sequence[Frame]) -> int:
        if self.dead:
            return len(frames)
        self.sent += [(bytes(f.data), f.blank, f.gso, f.mss) for f in frames]
        return 0

    @property
    def frames(self) -> list[bytes]:
        return [frame[0] for frame in self.sent]

    def deliver(self, *frames: bytes, **how: Any) -> int:
        made = [Frame(memoryview(bytearray(frame)), **{"validated": True, **how}) for frame in frames]
        taken = self.sink.deliver(made)
        self.waiting += made[taken:]
        return taken

    def resume(self) -> None:
        if self.waiting:
            waiting, self.waiting = self.waiting, []
            taken = self.sink.deliver(waiting)
            self.waiting = waiting[taken:]

    def close(self) -> None:
        pass


def settle(loop: Loop, turns: int = 20) -> None:
    """Everything that is due now has been done."""
    for _ in range(turns):
        loop.turn(0)
