"""A block front end for tests: it lays out rings and requests with the ABI's structures, as a guest does."""

from collections.abc import Sequence
from ctypes import Array, c_uint32

from tests.unit.dom0.fake_guest import FakeGuest
from tests.unit.dom0.test_shared_ring import RSP_EVENT
from tests.unit.dom0.test_shared_ring import Front as Ring
from xenion.abi.io.blkif import (
    PROTOCOL_X86_32,
    PROTOCOL_X86_64,
    Blkif32Request,
    Blkif32RequestDiscard,
    Blkif32RequestIndirect,
    Blkif32Response,
    BlkifOp,
    BlkifRequest,
    BlkifRequestDiscard,
    BlkifRequestIndirect,
    BlkifRequestSegment,
    BlkifResponse,
)
from xenion.dom0.loop import Loop

Segment = tuple[int, int, int]
"""Grant reference, first and last sector."""
Answer = tuple[int, int, int]
"""Id, operation, status."""


class Front:
    """Its rings lie in the guest's last frames. Grants below 1000 are the test's."""

    def __init__(
        self,
        guest: FakeGuest,
        loop: Loop,
        *,
        protocol: str = PROTOCOL_X86_64,
        order: int = 0,
        queues: int = 1,
        persistent: bool = False,
        start: int = 0,
    ) -> None:
        self.guest = guest
        self.loop = loop
        self.narrow = protocol == PROTOCOL_X86_32
        self.rings: list[Ring] = []
        self.nodes = {"protocol": protocol, "feature-persistent": str(int(persistent))}
        if queues > 1:
            self.nodes["multi-queue-num-queues"] = str(queues)
        if order:
            self.nodes["ring-page-order"] = str(order)
        for queue in range(queues):
            self._add_ring(queue, 1 << order, f"queue-{queue}/" if queues > 1 else "", start)

    def _add_ring(self, queue: int, pages: int, folder: str, start: int) -> None:
        ring = Ring(pages, 108 if self.narrow else 112, start)
        for page in range(pages):
            frame = len(self.guest.frames)
            self.guest.frames.append(ring.pages[page])
            ref = self.guest.grant(1000 + 16 * queue + page, frame)
            self.nodes[f"{folder}ring-ref{page}" if pages > 1 else f"{folder}ring-ref"] = str(ref)
        self.guest.unbound.add(100 + queue)
        self.nodes[f"{folder}event-channel"] = str(100 + queue)
        self.rings.append(ring)

    def _number(self, value: int) -> int | Array[c_uint32]:
        return (c_uint32 * 2)(value & 0xFFFF_FFFF, value >> 32) if self.narrow else value

    def request(
        self, op: int, ident: int, sector: int, segments: Sequence[Segment], count: int | None = None
    ) -> bytes:
        made = (Blkif32Request if self.narrow else BlkifRequest)()
        made.operation, made.nr_segments = op, len(segments) if count is None else count
        made.id, made.sector_number = self._number(ident), self._number(sector)
        for index, (ref, first, last) in enumerate(segments):
            made.seg[index] = BlkifRequestSegment(gref=ref, first_sect=first, last_sect=last)
        return bytes(made)

    def indirect(
        self,
        op: int,
        ident: int,
        sector: int,
        segments: Sequence[Segment],
        ref: int,
        count: int | None = None,
    ) -> bytes:
        """The segments go to the page that `ref` grants."""
        made = (Blkif32RequestIndirect if self.narrow else BlkifRequestIndirect)()
        made.operation, made.indirect_op = BlkifOp.INDIRECT, op
        made.nr_segments = len(segments) if count is None else count
        made.id, made.sector_number = self._number(ident), self._number(sector)
        made.indirect_grefs[0] = ref
        table = b"".join(bytes(BlkifRequestSegment(*segment)) for segment in segments)
        if ref in self.guest.grants:
            self.guest.frames[self.guest.grants[ref][0]][: len(table)] = table
        return bytes(made)

    def discard(self, ident: int, sector: int, sectors: int, flag: int = 0) -> bytes:
        made = (Blkif32RequestDiscard if self.narrow else BlkifRequestDiscard)()
        made.operation, made.flag, made.id = BlkifOp.DISCARD, flag, self._number(ident)
        made.sector_number, made.nr_sectors = self._number(sector), self._number(sectors)
        return bytes(made)

    def send(self, *requests: bytes, queue: int = 0) -> None:
        """And notifies Dom0 if it asked for that."""
        if self.rings[queue].push(list(requests)):
            self.guest.event(100 + queue)

    def answers(self, queue: int = 0) -> list[Answer]:
        """What has come, and the wish to be told of the next."""
        ring = self.rings[queue]
        structure = Blkif32Response if self.narrow else BlkifResponse
        found: list[Answer] = []
        for data in ring.responses():
            response = structure.from_buffer_copy(data)
            ident = response.id if isinstance(response.id, int) else response.id[0] | response.id[1] << 32
            found.append((ident, response.operation, response.status))
        ring.set(RSP_EVENT, ring.cons + 1)
        return found

    def wait(self, count: int, queue: int = 0) -> list[Answer]:
        """Turns the loop until so many answers are there."""
        found = self.answers(queue)
        while len(found) < count:
            notified = self.guest.ports[100 + queue].notified
            self.loop.turn(10)
            fresh = self.answers(queue)
            assert not fresh or self.guest.ports[100 + queue].notified > notified, (
                "answers nobody was told of"
            )
            found += fresh
        return found

    def do(self, *requests: bytes, queue: int = 0) -> list[Answer]:
        self.send(*requests, queue=queue)
        return self.wait(len(requests), queue)
