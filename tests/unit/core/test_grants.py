"""Copies to and from granted pages against a model that reads the entries by the words of grant_table.h."""

import struct
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.core.profiles import examples
from tests.unit.core.scripted import Core
from tests.unit.core.world import ALIEN, L1, L4, PAGE, SHARED_INFO, SPARE, WRITABLE_TYPE, World
from xenion.abi.grant_table import (
    GNTST_bad_copy_arg,
    GNTST_bad_gntref,
    GNTST_bad_page,
    GNTST_general_error,
    GNTST_okay,
    GTF_permit_access,
    GTF_reading,
    GTF_readonly,
    GTF_sub_page,
    GTF_transitive,
    GTF_type_mask,
    GTF_writing,
)

TABLE, STATUS_OFFSET, ENTRIES, DOMID = 7, 3072, 16, 0
"""The table is in a frame of the hypervisor's."""


@dataclass(frozen=True)
class Entry:
    flags: int
    domid: int
    frame: int
    start: int
    length: int
    status: int

    def pack(self, version: int) -> bytes:
        if version == 1:
            return struct.pack("<HHI", self.flags, self.domid, self.frame & 0xFFFFFFFF)
        return struct.pack("<HHHHQ", self.flags, self.domid, self.start, self.length, self.frame)


@dataclass(frozen=True)
class Part:
    ref: int
    offset: int
    length: int


flags = st.one_of(
    st.just(GTF_permit_access),
    st.builds(
        lambda kind, more: kind | sum(more),
        st.sampled_from([0, 1, 1, 1, 2, 3]),
        st.sets(st.sampled_from([GTF_readonly, GTF_reading, GTF_writing, GTF_sub_page])),
    ),
    st.integers(0, 0xFFFF),
)
frames = st.one_of(
    st.sampled_from([SPARE, SPARE + 1, SPARE + 1, SPARE + 2, L1, L4, SHARED_INFO, ALIEN, TABLE]),
    st.sampled_from([0, 31, 32, 2**32 - 1, 2**32 + SPARE, 2**52, 2**64 - 1]),
)
sizes = st.one_of(st.sampled_from([0, 1, 64, 2048, 4095, 4096]), st.integers(0, 4096))
entries = st.builds(
    Entry,
    flags,
    st.sampled_from([0, 0, 0, 5, 0x7FF0]),
    frames,
    st.one_of(st.just(0), st.integers(0, 0xFFFF)),
    st.one_of(st.just(4096), st.integers(0, 0xFFFF)),
    st.integers(0, 0xFFFF),
)
parts = st.builds(
    Part,
    st.one_of(st.integers(0, ENTRIES - 1), st.sampled_from([ENTRIES, 2**32 - 1])),
    st.one_of(sizes, st.just(2**32 - 1)),
    sizes,
)


class Table:
    def __init__(self, world: World, version: int, entries: list[Entry]) -> None:
        self.world, self.version, self.entries = world, version, entries
        self.layout = world.ffi.new("struct grant_layout *")
        self.layout.entries, self.layout.status = TABLE * PAGE, TABLE * PAGE + STATUS_OFFSET
        self.layout.version, self.layout.count = version, len(entries)
        self.size = 8 if version == 1 else 16
        for ref, entry in enumerate(entries):
            self.write(ref, entry)

    def write(self, ref: int, entry: Entry) -> None:
        at = TABLE * PAGE + ref * self.size
        self.world.memory[at : at + self.size] = entry.pack(self.version)
        if self.version == 2:
            at = TABLE * PAGE + STATUS_OFFSET + ref * 2
            self.world.memory[at : at + 2] = entry.status.to_bytes(2, "little")

    def copy(self, parts: list[Part], data: bytearray, *, write: bool) -> list[int]:
        ffi, statuses = self.world.ffi, self.world.ffi.new("int16_t[]", len(parts))
        self.world.lib.core_grant_copy(
            self.world.state, self.layout, DOMID, write,
            ffi.new("struct grant_part[]", [(p.ref, p.offset, p.length) for p in parts]), len(parts),
            ffi.from_buffer("uint8_t[]", data), len(data), statuses,
        )  # fmt: skip
        return list(statuses)

    # --- the model

    def grants(self, entry: Entry, *, write: bool) -> bool:
        kind = entry.flags & GTF_type_mask
        granted = kind == GTF_permit_access or (self.version == 2 and kind == GTF_transitive)
        return granted and entry.domid == DOMID and not (write and entry.flags & GTF_readonly)

    def range_of(self, entry: Entry) -> tuple[int, int, int]:
        """(frame, start, end)."""
        if self.version == 1:
            return entry.frame & 0xFFFFFFFF, 0, PAGE
        if entry.flags & GTF_sub_page:
            start = entry.start & 0x7FFF
            return entry.frame, start, start + entry.length
        return entry.frame, 0, PAGE

    def status(self, part: Part, *, write: bool) -> int:
        if part.offset + part.length > PAGE:
            return GNTST_bad_copy_arg
        if part.ref >= len(self.entries):
            return GNTST_bad_gntref
        entry = self.entries[part.ref]
        transitive = self.version == 2 and entry.flags & GTF_type_mask == GTF_transitive
        if not self.grants(entry, write=write) or transitive:
            return GNTST_general_error
        mfn, start, end = self.range_of(entry)
        if mfn >= self.world.nr_frames or not self.world.references(mfn):
            return GNTST_bad_page
        if write and self.world.type_of(mfn)[0] not in (0, WRITABLE_TYPE):
            return GNTST_general_error
        return (
            GNTST_okay if start <= part.offset and part.offset + part.length <= end else GNTST_general_error
        )

    def unmarked(self, part: Part, *, write: bool) -> None:
        """What the guest had set itself of the marks of an entry that was used is gone."""
        if part.offset + part.length > PAGE or part.ref >= len(self.entries):
            return
        entry, marks = self.entries[part.ref], GTF_reading | (GTF_writing if write else 0)
        if self.grants(entry, write=write):
            status = entry.flags if self.version == 1 else entry.status
            status &= ~marks
            changed = {"flags": status} if self.version == 1 else {"status": status}
            self.entries[part.ref] = Entry(**{**vars(entry), **changed})


def counts(world: World) -> list[tuple[int, int]]:
    """References, and those of the type."""
    return [(world.frame(n).count, world.frame(n).type & 0xFFFFFFFF) for n in range(world.nr_frames)]


@pytest.mark.parametrize("write", [False, True], ids=["gather", "scatter"])
@pytest.mark.parametrize("version", [1, 2])
@examples(150)
@given(
    entries=st.lists(entries, min_size=ENTRIES, max_size=ENTRIES),
    parts=st.lists(parts, max_size=8),
    code=st.booleans(),
)
def test_copies(
    core: Core, version: int, write: bool, entries: list[Entry], parts: list[Part], code: bool
) -> None:
    """Each part has its status, its bytes alone are touched, and every mark and reference is taken back."""
    with World(core) as world:
        for mfn in (SPARE, SPARE + 1, SPARE + 2):
            world.memory[mfn * PAGE : (mfn + 1) * PAGE] = bytes((i * 7 + mfn) & 0xFF for i in range(PAGE))
        world.script.code = code
        table = Table(world, version, entries)
        data = bytearray((i * 13 + 5) & 0xFF for i in range(sum(p.length for p in parts)))
        expected, memory, before = bytearray(data), bytearray(world.memory), counts(world)
        statuses, written, at = [], set(), 0
        for part in parts:
            statuses.append(table.status(part, write=write))
            table.unmarked(part, write=write)
            if statuses[-1] == GNTST_okay:
                mfn = table.range_of(entries[part.ref])[0]
                where = slice(mfn * PAGE + part.offset, mfn * PAGE + part.offset + part.length)
                if write:
                    memory[where] = data[at : at + part.length]
                    written |= {mfn} if part.length else set()
                else:
                    expected[at : at + part.length] = world.memory[where]
            at += part.length
        assert table.copy(parts, data, write=write) == statuses
        assert data == expected
        got = bytes(world.memory)
        for ref in range(ENTRIES):
            table.write(ref, table.entries[ref])
        assert got == bytes(world.memory), "an entry was left otherwise than it was"
        clear = slice(TABLE * PAGE, (TABLE + 1) * PAGE)
        memory[clear] = got[clear]
        assert got == memory
        assert counts(world) == before
        assert (world.script.woken[0] == 1) == (code and bool(written))
        world.lib.core_kicked(world.vcpu)
        assert world.script.written == (len(written) * PAGE if code else 0)


def test_data_that_is_too_short_is_not_left(world: World) -> None:
    table = Table(world, 1, [Entry(GTF_permit_access, 0, SPARE, 0, 0, 0)] * 2)
    data = bytearray(20)
    assert table.copy([Part(0, 0, 16), Part(1, 0, 16), Part(1, 0, 4)], data, write=False) == [
        GNTST_okay,
        GNTST_bad_copy_arg,
        GNTST_okay,
    ]


@pytest.mark.parametrize("version", [1, 2])
def test_mark_of_a_mapping(world: World, version: int) -> None:
    """A page that is mapped must be granted whole; the mark stays until it is taken back."""
    lib, entry = world.lib, world.ffi.new("struct grant_entry *")
    whole = Entry(GTF_permit_access, 0, SPARE, 0, 0, 0)
    table = Table(world, version, [whole, Entry(GTF_permit_access | GTF_sub_page, 0, SPARE, 16, 32, 0)])
    mapping = lib.GRANT_MAPPING | lib.GRANT_WRITE
    assert lib.core_grant_mark(world.state, table.layout, 1, 0, mapping, entry) == GNTST_general_error
    assert lib.core_grant_mark(world.state, table.layout, 0, 0, mapping, entry) == GNTST_okay
    assert (entry.mfn, entry.start, entry.length, entry.sub_page) == (SPARE, 0, PAGE, 0)
    at = TABLE * PAGE + (0 if version == 1 else STATUS_OFFSET)
    assert world.memory[at] & (GTF_reading | GTF_writing) == GTF_reading | GTF_writing
    lib.core_grant_unmark(world.state, table.layout, 0, GTF_writing)
    assert world.memory[at] & (GTF_reading | GTF_writing) == GTF_reading


def test_pinned_entry_needs_not_grant_any_more(world: World) -> None:
    """What it said when it was pinned counts; only one that is now read-only cannot be written."""
    lib, entry = world.lib, world.ffi.new("struct grant_entry *")
    table = Table(world, 1, [Entry(0, 0, 0, 0, 0, 0), Entry(GTF_readonly, 0, 0, 0, 0, 0)])
    use = lib.GRANT_PINNED | lib.GRANT_WRITE | lib.GRANT_MAPPING
    assert lib.core_grant_mark(world.state, table.layout, 0, 0, use, entry) == GNTST_okay
    assert lib.core_grant_mark(world.state, table.layout, 1, 0, use, entry) == GNTST_general_error
    assert lib.core_grant_mark(world.state, table.layout, 2, 0, use, entry) == GNTST_bad_gntref
