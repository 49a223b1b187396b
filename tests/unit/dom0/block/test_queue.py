"""A ring under a hostile front end and a disk that ends operations in any order.

The oracle reads requests with the ABI's structures. Whatever happens: every request that was taken is answered once,
with what blkif.h says; only pages that were granted for writing change, and those as the disk's data says; nothing
stays mapped after the end.
"""

import random
from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.unit.dom0.block.front import Front
from tests.unit.dom0.block.manual_disk import ManualDisk
from tests.unit.dom0.fake_guest import FakeGuest
from xenion.abi.io.blkif import (
    PROTOCOL_X86_32,
    PROTOCOL_X86_64,
    Blkif32Request,
    Blkif32RequestDiscard,
    Blkif32RequestIndirect,
    BlkifOp,
    BlkifRequest,
    BlkifRequestDiscard,
    BlkifRequestIndirect,
    BlkifRequestSegment,
    BlkifRsp,
)
from xenion.dom0.block.backend import BlockBackend
from xenion.dom0.loop import Loop

SECTORS = 256
WRITABLE, READABLE, SECRET, TABLES = range(16), range(16, 24), range(24, 32), range(32, 40)
"""Frames: granted for writing, for reading, not at all, and for indirect segments. References are 100 more."""

OPS = st.sampled_from([0, 0, 0, 1, 1, 1, 2, 3, 4, 7, 255])
REFS = st.one_of(
    st.sampled_from([100 + frame for frame in (*WRITABLE, *WRITABLE, *READABLE)]),
    st.sampled_from([0, 99, 130, 0xFFFF_FFFF]),
)
GOOD = st.tuples(st.sampled_from([100 + frame for frame in WRITABLE]), st.integers(0, 3), st.integers(3, 7))
SEGMENT = st.one_of(GOOD, GOOD, st.tuples(REFS, st.integers(0, 9), st.integers(0, 9)))


def segments(most: int) -> st.SearchStrategy[list[tuple[int, int, int]]]:
    good = st.lists(GOOD, min_size=1, max_size=most)
    return st.one_of(good, good, st.lists(SEGMENT, max_size=most))


WHERE = st.one_of(
    st.integers(0, SECTORS // 4),
    st.integers(0, SECTORS // 4),
    st.integers(0, SECTORS + 8),
    st.sampled_from([(1 << 64) - 1, 1 << 63, SECTORS - 1]),
)


def number(field: object) -> int:
    """Of either word size."""
    return field if isinstance(field, int) else field[0] | field[1] << 32  # type: ignore[index]


class Asked:
    """One request as the oracle reads it."""

    def __init__(self, slot: bytes, narrow: bool, guest: FakeGuest, persistent: bool) -> None:
        self.candidates: list[bytes] = []
        request = (Blkif32Request if narrow else BlkifRequest).from_buffer_copy(slot)
        indirect = (Blkif32RequestIndirect if narrow else BlkifRequestIndirect).from_buffer_copy(slot)
        self.op = int(request.operation)
        self.ident, self.sector = number(request.id), number(request.sector_number)
        self.segments = [(s.gref, s.first_sect, s.last_sect) for s in request.seg][: request.nr_segments]
        count, most = int(request.nr_segments), 11
        self.legal = self.op in (0, 1, 2, 3)
        if self.op == BlkifOp.INDIRECT:
            self.op, count, most = int(indirect.indirect_op), int(indirect.nr_segments), 256
            table = guest.grants.get(indirect.indirect_grefs[0])
            self.legal = self.op in (0, 1) and table is not None and (table[1] or not persistent)
            here = guest.frames[table[0]] if table is not None and count <= most else bytearray(4096)
            self.segments = [
                (s.gref, s.first_sect, s.last_sect)
                for s in (BlkifRequestSegment * min(count, most)).from_buffer_copy(here)
            ]
        elif self.op == BlkifOp.DISCARD:
            discard = (Blkif32RequestDiscard if narrow else BlkifRequestDiscard).from_buffer_copy(slot)
            self.sectors = number(discard.nr_sectors)
            self.expected = {BlkifRsp.OKAY} if 0 < self.sectors <= SECTORS - self.sector else {BlkifRsp.ERROR}
            if discard.flag & 1:
                self.expected = {BlkifRsp.EOPNOTSUPP}
            return
        elif not self.legal:
            self.expected = {BlkifRsp.EOPNOTSUPP}
            return
        self.sectors = sum(last - first + 1 for _, first, last in self.segments)
        writes = self.op == 0 or persistent
        self.granted = [
            ref in guest.grants and (guest.grants[ref][1] or not writes) for ref, _, _ in self.segments
        ]
        well_formed = (
            self.legal
            and count <= most
            and (count > 0 or self.op > 1)
            and all(first <= last < 8 for _, first, last in self.segments)
            and (not self.segments or self.sector + self.sectors <= SECTORS)
        )
        self.legal = well_formed and all(self.granted)
        self.partly = well_formed and self.op == BlkifOp.READ and not persistent
        """Read, then copied to the pages that are granted."""
        self.expected = {BlkifRsp.OKAY} if self.legal else {BlkifRsp.ERROR}


class Hostile(RuleBasedStateMachine):
    @initialize()
    def boot(self) -> None:
        self.loop = Loop()
        self.guest = FakeGuest(self.loop, 40)
        dice = random.Random(1)
        for frame in range(40):
            self.guest.frames[frame][:] = dice.randbytes(4096)
            if frame not in SECRET:
                self.guest.grant(100 + frame, frame, write=frame not in READABLE)
        self.disk = ManualDisk(self.loop, SECTORS * 512)
        self.disk.data[:] = dice.randbytes(SECTORS * 512)
        self.model_disk = bytearray(self.disk.data)
        self.model = [bytearray(page) for page in self.guest.frames[:40]]
        self.backend = BlockBackend(self.guest, 51712, self.disk, self.loop)
        self.connected = False

    @precondition(lambda self: not self.connected)
    @rule(
        protocol=st.sampled_from([PROTOCOL_X86_64, PROTOCOL_X86_32]),
        order=st.sampled_from([0, 1, 3]),
        persistent=st.booleans(),
        start=st.sampled_from([0, 0xFFFF_FFFC]),
    )
    def connect(self, protocol: str, order: int, persistent: bool, start: int) -> None:
        del self.guest.frames[40:]
        self.front = Front(
            self.guest, self.loop, protocol=protocol, order=order, persistent=persistent, start=start
        )
        self.persistent = persistent
        self.backend.connect(self.front.nodes)
        self.loop.turn(0)
        self.connected, self.broken = True, False
        self.free_tables = list(TABLES)
        self.asked: list[Asked] = []
        self.sent: list[Asked] = []
        self.tables: dict[int, int] = {}
        self.ident = 0

    def _send(self, slots: list[bytes]) -> None:
        if self.broken:
            return
        ring = self.front.rings[0]
        slots = [slot.ljust(ring.slot, b"\0")[: ring.slot] for slot in slots[: ring.room]]
        asked = [Asked(slot, self.front.narrow, self.guest, self.persistent) for slot in slots]
        self.asked += asked
        self.sent += asked
        self._note_data()
        self.front.send(*slots)
        self._settle()

    @precondition(lambda self: self.connected)
    @rule(
        requests=st.lists(
            st.tuples(OPS, WHERE, segments(11), st.sampled_from([False, False, False, True])), max_size=8
        )
    )
    def direct(self, requests: list[tuple[int, int, list[tuple[int, int, int]], bool]]) -> None:
        slots = []
        for op, sector, segments, lie in requests:
            self.ident += 1
            slots.append(self.front.request(op, self.ident, sector, segments, 11 + op if lie else None))
        self._send(slots)

    @precondition(lambda self: self.connected)
    @rule(sector=WHERE, sectors=st.integers(0, 80), flag=st.sampled_from([0, 0, 0, 1]))
    def discard(self, sector: int, sectors: int, flag: int) -> None:
        self.ident += 1
        self._send([self.front.discard(self.ident, sector, sectors, flag)])

    @precondition(lambda self: self.connected and self.free_tables)
    @rule(
        op=OPS,
        sector=WHERE,
        segments=segments(40),
        count=st.sampled_from([None, None, None, 0, 257, 0xFFFF]),
        known=st.sampled_from([True, True, True, False]),
    )
    def indirect(
        self, op: int, sector: int, segments: list[tuple[int, int, int]], count: int | None, known: bool
    ) -> None:
        if self.broken or not self.front.rings[0].room:
            return
        self.ident += 1
        frame = self.free_tables.pop()
        self.tables[self.ident] = frame
        ref = 100 + frame if known else 98
        slot = self.front.indirect(op, self.ident, sector, segments, ref, count)
        self.model[frame][:] = self.guest.frames[frame]
        self._send([slot])

    @precondition(lambda self: self.connected)
    @rule(slot=st.binary(min_size=24, max_size=112), op=st.sampled_from([None, 0, 1, 2, 3, 5, 6]))
    def garbage(self, slot: bytes, op: int | None) -> None:
        slot = slot if op is None else bytes([op]) + slot[1:]
        self._send([slot])

    @precondition(lambda self: self.connected and not self.broken)
    @rule(ahead=st.integers(1000, 0xFFFF_0000))
    def nonsense(self, ahead: int) -> None:
        ring = self.front.rings[0]
        ring.set(0, ring.prod + ahead)
        self.guest.event(100)
        self._settle()
        blocked = any(asked.op == BlkifOp.WRITE_BARRIER for asked in self.asked)
        if self.backend.error is None:
            assert blocked  # it has not looked yet
            ring.set(0, ring.prod)
        else:
            self.broken = True
            assert "the guest announces" in self.backend.error

    @precondition(lambda self: self.disk.pending)
    @rule(data=st.data(), error=st.sampled_from([0, 0, 0, 0, 5, 28, 95]))
    def finish(self, data: st.DataObject, error: int) -> None:
        self._finish(data.draw(st.integers(0, len(self.disk.pending) - 1)), error)

    def _finish(self, index: int, error: int = 0) -> None:
        self.error = error
        self.disk.finish(index, error)
        self._settle()
        self.error = 0

    def _note_data(self) -> None:
        """What a write may take: its pages as they are now. It takes them once, some time before it is answered."""
        for asked in self.asked:
            if asked.legal and asked.op in (BlkifOp.WRITE, BlkifOp.WRITE_BARRIER, BlkifOp.FLUSH_DISKCACHE):
                pages = [
                    self.model[ref - 100][first * 512 : (last + 1) * 512]
                    for ref, first, last in asked.segments
                ]
                asked.candidates.append(b"".join(pages))

    def _settle(self) -> None:
        for _ in range(3):
            self.loop.turn(0)
        for ident, op, status in self.front.answers():
            self._answered(ident, op, status)

    def _answered(self, ident: int, op: int, status: int) -> None:
        index = next(i for i, asked in enumerate(self.asked) if (asked.ident, asked.op) == (ident, op))
        asked = self.asked.pop(index)
        if ident in self.tables:
            self.free_tables.append(self.tables.pop(ident))
        if status == BlkifRsp.OKAY:
            assert asked.expected == {BlkifRsp.OKAY}
            self._apply(asked)
        elif getattr(asked, "partly", False) and not getattr(self, "error", 0):
            self._apply(asked)
        elif status not in asked.expected:
            assert getattr(self, "error", 0), f"{asked.__dict__} answered {status}"

    def _apply(self, asked: Asked) -> None:
        at = asked.sector * 512
        if asked.op == BlkifOp.DISCARD:
            self.model_disk[at : at + asked.sectors * 512] = bytes(asked.sectors * 512)
            return
        if asked.op != BlkifOp.READ:
            written = bytes(self.disk.data[at : at + asked.sectors * 512])
            assert written in asked.candidates
            self.model_disk[at : at + len(written)] = written
            return
        for (ref, first, last), granted in zip(asked.segments, asked.granted, strict=True):
            length = (last - first + 1) * 512
            if granted:
                page = self.model[ref - 100]
                page[first * 512 : first * 512 + length] = self.model_disk[at : at + length]
            at += length
        self._note_data()

    @precondition(lambda self: self.connected)
    @rule()
    def disconnect(self) -> None:
        ended: list[bool] = []
        held_up = self.broken or any(asked.op == BlkifOp.WRITE_BARRIER for asked in self.asked)
        self.backend.disconnect(lambda: ended.append(True))
        while not ended:
            self._settle()
            if self.disk.pending:
                self._finish(0)
        self._settle()
        # What a barrier, or a broken index, held up in the ring was never taken: the last ones that were sent.
        assert not self.asked or (held_up and self.asked == self.sent[-len(self.asked) :])
        assert self.guest.mapped == []
        assert self.guest.ports[100].handler is None
        self.connected = False

    @invariant()
    def memory_is_as_it_must_be(self) -> None:
        if hasattr(self, "model"):
            assert self.guest.frames[:40] == self.model
            assert self.disk.data == self.model_disk

    @invariant()
    def pages_are_mapped_for_a_reason(self) -> None:
        if hasattr(self, "guest") and self.connected and not self.persistent and not self.disk.pending:
            assert not [ref for ref in Counter(getattr(m, "ref", 0) for m in self.guest.mapped) if ref < 1000]

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            if self.connected:
                self.disconnect()
            self.loop.close()


TestHostile = Hostile.TestCase
TestHostile.settings = settings(max_examples=100, stateful_step_count=40)
