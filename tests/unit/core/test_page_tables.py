"""The page-table code against a model that keeps no counts, over random sequences of what a kernel can do."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TypeAlias

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from tests.unit.core.isolation import check_isolation
from tests.unit.core.model import XEN_SLOTS, Model, RefusedError, frame_of, is_table
from tests.unit.core.profiles import examples
from tests.unit.core.scripted import Core
from tests.unit.core.world import (
    ALIEN,
    ALLOCATED,
    ARGS,
    CODE,
    CODE_PAGE,
    FIRST,
    HOLE,
    KERNEL_FORM,
    L1,
    L2,
    L3,
    L4,
    NX,
    PAGE,
    PCD,
    PINNED,
    PSE,
    RAX,
    RBX,
    RW,
    SEGMENT_TYPE,
    SHARED_INFO,
    SPARE,
    US,
    A,
    D,
    G,
    P,
    World,
    entry,
    page_address,
)
from xenion.abi.errno import Errno
from xenion.abi.xen import (
    MMU_MACHPHYS_UPDATE,
    MMU_PT_UPDATE_PRESERVE_AD,
    MMUEXT_CLEAR_PAGE,
    MMUEXT_COPY_PAGE,
    MMUEXT_NEW_BASEPTR,
    MMUEXT_NEW_USER_BASEPTR,
    MMUEXT_PIN_L1_TABLE,
    MMUEXT_TLB_FLUSH_ALL,
    MMUEXT_UNPIN_TABLE,
    Hypercall,
)

SPARES = 14
NR_FRAMES = SPARE + SPARES
TABLES4, TABLES3, TABLES2, TABLES1, DATA = (
    range(SPARE, SPARE + 3),
    range(SPARE + 3, SPARE + 5),
    range(SPARE + 5, SPARE + 7),
    range(SPARE + 7, SPARE + 10),
    range(SPARE + 10, SPARE + SPARES),
)
PREPARED = {4: TABLES4, 3: TABLES3, 2: TABLES2, 1: TABLES1}
SPARE_FRAMES = range(SPARE, SPARE + SPARES)
READ_ONLY = (*TABLES1, TABLES2[0], DATA[0])
BOOT_ENTRY = entry(L3)
UNMAPPED = 2**64 - 1
WATCHED = (L4, L3, L2, *SPARE_FRAMES)
"""Frames whose words are compared; the kernel's own pages change with each call."""

MOV, XCHG, CMPXCHG, XADD = b"\x48\x89\x18", b"\x48\x87\x18", b"\xf0\x48\x0f\xb1\x18", b"\x48\x0f\xc1\x18"
SMALL = b"\x89\x18"

Step: TypeAlias = tuple[str, tuple[int, ...]]

frames = st.sampled_from([*SPARE_FRAMES, *SPARE_FRAMES, L4])
odd_frames = st.one_of(
    frames, frames, frames, st.sampled_from([0, ALIEN, SHARED_INFO, ARGS, NR_FRAMES, 1 << 31, 1 << 51])
)
indexes = st.sampled_from([0, 1, 2, 3, 255, 256, 257, 271, 272, 400])
flags = st.sampled_from(
    [
        0x67,
        0x67,
        0x67,
        0x63,
        0x65,
        0x65,
        0x61,
        0x25,
        0x27,
        0x67 | NX,
        0,
        0x66,
        0xE7,
        0x167,
        0x867,
        0x77,
        0x67 | 1 << 55,
    ]
)
descriptors = st.sampled_from(
    [0x00AF9B000000FFFF, 0x0000EC0000000000, 0x0000820000000000, 0x00CF92000000FFFF]
)


@st.composite
def entries(draw: st.DrawFn) -> int:
    target = draw(
        st.one_of(
            frames, frames, st.sampled_from([0, ALIEN, HOLE, SHARED_INFO, ARGS, NR_FRAMES + 9, 1 << 32])
        )
    )
    return entry(target, draw(flags)) & 0xFFFF_FFFF_FFFF_FFFF


values = st.one_of(st.just(0), entries(), entries(), entries(), entries(), descriptors)


def step(name: str, *arguments: st.SearchStrategy[int]) -> st.SearchStrategy[Step]:
    return st.tuples(st.just(name), st.tuples(*arguments))


changes = st.sampled_from(
    [RW, RW, US, A, D, A | D, NX, 0x200, 1 << 54, PSE, G, P, PCD, RW | US, 1 << 12, 1 << 45]
)
retouch = step("retouch", frames, st.integers(0, 7), changes, st.booleans())
update = step("update", odd_frames, indexes, values)
pin = step("pin", odd_frames, st.integers(1, 4))
new_kernel = step("new_kernel", st.sampled_from([*TABLES4, *TABLES4, L4, TABLES3[0]]))
linear = st.builds(
    lambda pair, index, how: ("update", (pair[0], index, entry(pair[1], how))),
    st.sampled_from([(a, b) for tables in (TABLES4, TABLES3, TABLES2) for a in tables for b in tables]),
    indexes,
    st.sampled_from([0x65, 0x25, 0x67, 0]),
)
kernel_half = st.builds(
    lambda mfn, index, value: ("update", (mfn, index, value)),
    st.sampled_from([*TABLES4, L4]),
    st.sampled_from([272, 330, 331, 400, 510]),
    st.one_of(
        st.sampled_from([entry(mfn, how) for mfn in TABLES3 for how in (0x67, 0x63, 0x65, 0xE7)]), entries()
    ),
)
steps = st.one_of(
    update,
    update,
    linear,
    kernel_half,
    retouch,
    retouch,
    step("preserve", odd_frames, indexes, values),
    step("update_va", indexes, indexes, indexes, indexes, values),
    step("machphys", odd_frames, st.integers(0, 2**64 - 1)),
    pin,
    pin,
    st.sampled_from(
        [
            ("pin", (f, level))
            for level, fs in ((4, TABLES4), (3, TABLES3), (2, TABLES2), (1, TABLES1))
            for f in fs
        ]
    ),
    step("unpin", odd_frames),
    new_kernel,
    step("new_user", st.sampled_from([*TABLES4, L4, 0, DATA[0]])),
    step("write", st.sampled_from(READ_ONLY), indexes, values, st.integers(0, 4)),
    step("release", odd_frames),
    step("allocate"),
    step("clear", odd_frames),
    step("copy", odd_frames, odd_frames),
    step("gdt", odd_frames, odd_frames, st.integers(0, 1024)),
    step("hold", odd_frames),
    step("unhold"),
)


sequences = st.integers(0, 60).flatmap(lambda length: st.lists(steps, min_size=length, max_size=length))


def initial_words() -> dict[int, dict[int, int]]:
    """Tables as a kernel prepares them before it pins the first."""
    words: dict[int, dict[int, int]] = {mfn: {} for mfn in range(NR_FRAMES)}
    for table in TABLES4:
        words[table][511] = BOOT_ENTRY
    words[TABLES4[0]] |= {0: entry(TABLES3[0]), 1: entry(TABLES3[1]), 272: entry(TABLES3[0]), 300: 0x66}
    words[TABLES4[2]] |= {257: entry(TABLES3[1]), 271: entry(DATA[0], 0x25), 330: entry(TABLES3[1], 0x63)}
    words[TABLES4[1]] |= {0: entry(TABLES3[0]), 2: entry(TABLES4[1], 0x65)}
    words[TABLES3[0]] |= {0: entry(TABLES2[0]), 1: entry(TABLES2[1])}
    words[TABLES3[1]] |= {1: entry(TABLES2[1], 0x65)}
    words[TABLES2[0]] |= {0: entry(TABLES1[0]), 1: entry(TABLES1[1])}
    words[TABLES2[1]] |= {0: entry(TABLES1[2])}
    words[TABLES1[0]] |= {0: entry(DATA[0]), 1: entry(DATA[1], 0x25), 2: entry(TABLES1[0], 0x25)}
    words[TABLES1[1]] |= {0: entry(DATA[1]), 3: entry(SHARED_INFO)}
    return words


class Pair:
    """The core and the model, driven together."""

    def __init__(self, world: World) -> None:
        self.world = world
        words = initial_words()
        words[L4] = {256: world.state.hole_entry, 511: BOOT_ENTRY}
        for mfn in (L3, L2, L1):
            words[mfn] = {index: value for index, value in enumerate(world.page(mfn)) if value}
        for mfn in SPARE_FRAMES:
            for index, value in words[mfn].items():
                world.set_word(mfn, index, value)
        self.model = Model(NR_FRAMES, world.state.hole_entry, words, SHARED_INFO)
        self.model.take(L4, 4)
        self.model.pinned, self.model.cr3, self.model.kernel_form = {L4}, L4, {L4}
        self.model.settle()
        self.m2p = {mfn: mfn - FIRST for mfn in range(FIRST, NR_FRAMES)}
        self.stale: set[int] = set()
        self.flushes = world.script.flushes
        self.check()

    def run(self, name: str, arguments: tuple[int, ...]) -> None:
        note(f"{name}{arguments}")
        getattr(self, "do_" + name)(*arguments)
        self.check()

    def expect(self, act: Callable[[], int], wanted: Callable[[], None]) -> None:
        try:
            wanted()
            expected = 0
        except RefusedError as error:
            expected = -error.errno
        assert act() == expected

    # --- the steps

    def do_update(self, mfn: int, index: int, value: int) -> None:
        if not self.keeps_arguments(mfn, index):
            return
        pointer = mfn << 12 | index << 3
        self.expect(
            lambda: self.world.mmu_update((pointer, value)), lambda: self.model.update(mfn, index, value)
        )

    def do_preserve(self, mfn: int, index: int, value: int) -> None:
        pointer = mfn << 12 | index << 3 | MMU_PT_UPDATE_PRESERVE_AD
        if self.keeps_arguments(mfn, index):
            self.expect(
                lambda: self.world.mmu_update((pointer, value)),
                lambda: self.model.update(mfn, index, value, preserve=True),
            )

    def do_retouch(self, mfn: int, nth: int, bits: int, preserve: int) -> None:
        """Changes bits of an entry that is there."""
        words = sorted(index for index in self.model.words[mfn] if index != 511)
        if words:
            index = words[nth % len(words)]
            act = self.do_preserve if preserve else self.do_update
            act(mfn, index, self.model.words[mfn][index] ^ bits)

    def keeps_arguments(self, mfn: int, index: int) -> bool:
        """The shared info and argument pages are the harness's own."""
        return mfn not in (ARGS, SHARED_INFO)

    def do_update_va(self, l4: int, l3: int, l2: int, l1: int, value: int) -> None:
        if l4 in XEN_SLOTS:
            return
        address = l4 << 39 | l3 << 30 | l2 << 21 | l1 << 12
        address |= 0xFFFF << 48 if l4 > 255 else 0
        self.expect(
            lambda: self.world.hypercall(Hypercall.update_va_mapping, address, value, 0),
            lambda: self.model.update_va(address, value),
        )

    def do_machphys(self, mfn: int, value: int) -> None:
        rc = self.world.mmu_update((mfn << 12 | MMU_MACHPHYS_UPDATE, value))
        assert rc == (0 if mfn in self.model.live else -Errno.EINVAL)
        if not rc:
            self.m2p[mfn] = value

    def do_pin(self, mfn: int, level: int) -> None:
        command = MMUEXT_PIN_L1_TABLE + level - 1
        self.expect(lambda: self.world.mmuext(command, mfn), lambda: self.model.pin(mfn, level))

    def do_unpin(self, mfn: int) -> None:
        self.expect(lambda: self.world.mmuext(MMUEXT_UNPIN_TABLE, mfn), lambda: self.model.unpin(mfn))

    def do_new_kernel(self, mfn: int) -> None:
        """Not to a table that would take the hypercalls' own arguments away."""
        words = self.model.words.get(mfn, {})
        if words.get(511) != BOOT_ENTRY and self.model.kinds.get(mfn) in (None, 4):
            return
        self.expect(
            lambda: self.world.mmuext(MMUEXT_NEW_BASEPTR, mfn), lambda: self.model.new_kernel_table(mfn)
        )

    def do_new_user(self, mfn: int) -> None:
        self.expect(
            lambda: self.world.mmuext(MMUEXT_NEW_USER_BASEPTR, mfn), lambda: self.model.new_user_table(mfn)
        )

    def do_write(self, mfn: int, index: int, value: int, how: int) -> None:
        """The kernel's own store through its read-only mapping: done, or a page fault."""
        world, old = self.world, self.model.words[mfn].get(index, 0)
        stored, code = [
            (value, MOV),
            (value, XCHG),
            (value, CMPXCHG),
            ((old + value) % 2**64, XADD),
            (value, SMALL),
        ][how]
        if how == 4:
            stored = old >> 32 << 32 | value & 0xFFFFFFFF
        at = CODE * PAGE + 64
        world.memory[at : at + len(code)] = code
        world.vcpu.rip = page_address(CODE_PAGE) + 64
        world.vcpu.regs[RAX], world.vcpu.regs[RBX] = old, value
        world.lib.core_page_fault(world.vcpu, world.spare_address(mfn) + index * 8, 3)
        try:
            self.model.direct_write(mfn, index, stored)
            assert world.vcpu.rip == page_address(CODE_PAGE) + 64 + len(code)
        except RefusedError:
            assert world.faulted(14)
        world.ready()

    def do_release(self, mfn: int) -> None:
        if mfn == ARGS:
            return
        if mfn in self.model.allocated:
            self.m2p[mfn] = UNMAPPED
        release = self.world.lib.core_release_frame
        self.expect(lambda: release(self.world.state, mfn), lambda: self.model.release(mfn))

    def do_allocate(self) -> None:
        mfn = self.world.lib.core_allocate_frame(self.world.state)
        if mfn < 0:
            assert mfn == -Errno.ENOMEM
            assert not set(range(FIRST, NR_FRAMES)) - self.model.live
        else:
            self.model.allocated_frame(mfn)

    def do_clear(self, mfn: int) -> None:
        if mfn not in (ARGS, SHARED_INFO):
            self.expect(lambda: self.world.mmuext(MMUEXT_CLEAR_PAGE, mfn), lambda: self.model.clear_page(mfn))

    def do_copy(self, target: int, source: int) -> None:
        if not {target, source} & {ARGS, SHARED_INFO}:
            if source in self.model.kernel_form:
                return  # what it would copy is the stored form
            self.expect(
                lambda: self.world.mmuext(MMUEXT_COPY_PAGE, target, source),
                lambda: self.model.copy_page(target, source),
            )

    def do_gdt(self, first: int, second: int, count: int) -> None:
        chosen = [first, second][: -(-count // 512)]
        at = self.world.put(struct.pack("<2Q", first, second))
        self.expect(
            lambda: self.world.hypercall(Hypercall.set_gdt, at, count), lambda: self.model.set_gdt(chosen)
        )

    def do_hold(self, mfn: int) -> None:
        if len(self.model.held) < 4:
            self.expect(
                lambda: self.world.lib.core_get_writable(self.world.state, mfn), lambda: self.model.hold(mfn)
            )

    def do_unhold(self) -> None:
        if self.model.held:
            self.world.lib.core_drop_frame(self.world.state, self.model.unhold(), 1)
            self.world.lib.core_kicked(self.world.vcpu)  # which frees it if that was the last reference

    # --- what must hold after each

    def check(self) -> None:
        self.check_frames()
        for mfn in WATCHED:
            assert self.world.page(mfn) == self.model.page(mfn), f"the words of frame {mfn}"
        assert self.world.vcpu.cr3 >> 12 == self.model.cr3
        assert self.world.vcpu.user_cr3 >> 12 == self.model.user_cr3
        check_isolation(self.world)
        self.check_stale()
        assert not self.world.state.crashed

    def check_frames(self) -> None:
        world, model = self.world, self.model
        for mfn in range(1, NR_FRAMES):
            kind, count = world.type_of(mfn)
            where = f"frame {mfn}"
            assert (kind, count) == (model.kinds.get(mfn, 0), model.types[mfn]), where
            allocated = ALLOCATED if mfn in model.allocated else 0
            assert world.frame(mfn).count == allocated + model.frames[mfn] + (mfn == SHARED_INFO), where
            assert bool(world.frame(mfn).type & PINNED) == (mfn in model.pinned), where
            assert bool(world.frame(mfn).type & KERNEL_FORM) == (mfn in model.kernel_form), where
            assert world.words[world.state.m2p // 8 + mfn] == self.m2p.get(mfn, UNMAPPED), where
        assert world.state.pages == len(model.live - {SHARED_INFO})

    def check_stale(self) -> None:
        """A processor may remember what it could write until it is flushed: none of that may be trusted meanwhile."""
        world = self.world
        if world.script.flushes != self.flushes:
            self.flushes = world.script.flushes
            self.stale.clear()
        for mfn in self.stale:
            kind, _ = world.type_of(mfn)
            assert not is_table(kind), f"frame {mfn} is a table that a stale translation can write"
            assert kind != SEGMENT_TYPE
        for mfn, kind in self.model.kinds.items():
            if kind == 1:
                self.stale |= {frame_of(v) for v in self.model.words[mfn].values() if v & (P | RW) == P | RW}

    def undo(self) -> None:
        """Takes back all that the kernel did."""
        self.do_gdt(0, 0, 0)
        while self.model.held:
            self.do_unhold()
        self.do_new_user(0)
        if self.model.cr3 != L4 and self.model.words[L4].get(511) == BOOT_ENTRY:
            self.do_new_kernel(L4)
        for table in [mfn for mfn in self.model.pinned if mfn != L4]:
            self.do_unpin(table)
        for index in list(self.model.words[L4]):
            if self.model.cr3 == L4 and index != 511 and index not in XEN_SLOTS:
                self.do_update(L4, index, 0)
        self.check()


@examples(300)
@given(pins=st.sets(st.sampled_from([(m, k) for k, ms in PREPARED.items() for m in ms])), sequence=sequences)
def test_any_sequence(core: Core, pins: set[tuple[int, int]], sequence: list[Step]) -> None:
    with World(core, NR_FRAMES, read_only=READ_ONLY) as world:
        pair = Pair(world)
        for name, arguments in [*(("pin", pin) for pin in sorted(pins)), *sequence]:
            pair.run(name, arguments)
        pair.undo()
        if pair.model.cr3 != L4:
            return
        for mfn in SPARE_FRAMES:
            assert world.type_of(mfn)[1] == 0
            assert world.references(mfn) == (mfn in pair.model.allocated) + (mfn in READ_ONLY)


@pytest.mark.parametrize("use", ["pin", "gdt", "entry"])
@pytest.mark.parametrize("drop", ["update", "unpin"])
def test_what_could_be_written_is_flushed_before_it_is_trusted(world: World, drop: str, use: str) -> None:
    """The guest drops its last writable mapping, does not flush, and makes the frame a table or descriptors."""
    table, data, upper = SPARE, SPARE + 1, SPARE + 2
    world.set_word(table, 0, entry(data))
    assert world.lib.core_pin(world.state, table, 1) == world.lib.core_pin(world.state, upper, 2) == 0
    assert (
        world.mmu_update((table << 12, 0)) == 0
        if drop == "update"
        else world.mmuext(MMUEXT_UNPIN_TABLE, table) == 0
    )
    flushes = world.script.flushes
    if use == "pin":
        assert world.mmuext(MMUEXT_PIN_L1_TABLE, data) == 0
    elif use == "gdt":
        assert world.hypercall(Hypercall.set_gdt, world.put_words([data]), 512) == 0
        flushes += 1  # for the old GDT
    else:
        assert world.mmu_update((upper << 12, entry(data))) == 0
        flushes += 1  # behind every change of an upper table
    assert world.script.flushes > flushes


def test_a_mapping_that_went_while_dom0_held_the_frame_is_flushed_too(world: World) -> None:
    """Dom0's reference outlives the guest's last, and tells nothing of when that went."""
    table, data = SPARE, SPARE + 1
    world.set_word(table, 0, entry(data))
    assert world.lib.core_pin(world.state, table, 1) == 0
    assert world.lib.core_get_writable(world.state, data) == 0
    assert world.mmu_update((table << 12, 0)) == 0
    world.lib.core_drop_frame(world.state, data, 1)
    flushes = world.script.flushes
    assert world.mmuext(MMUEXT_PIN_L1_TABLE, data) == 0
    assert world.script.flushes == flushes + 1


def test_dom0_alone_makes_nobody_flush(world: World) -> None:
    """The guest never mapped what Dom0 held: nothing of it can be stale."""
    flushes = world.script.flushes
    assert world.mmuext(MMUEXT_TLB_FLUSH_ALL) == 0
    assert world.lib.core_get_writable(world.state, SPARE) == 0
    world.lib.core_drop_frame(world.state, SPARE, 1)
    assert world.mmuext(MMUEXT_PIN_L1_TABLE, SPARE) == 0
    assert world.script.flushes == flushes + 1


@pytest.mark.parametrize("level", [2, 3, 4])
def test_linear_tables_do_not_chain(world: World, level: int) -> None:
    """A table that leads to one of its own level is led to by none; the last entry that goes lifts the ban."""
    first, second, third = range(SPARE, SPARE + 3)
    for table in (first, second, third):
        assert world.lib.core_pin(world.state, table, level) == 0

    def lead(holder: int, index: int, target: int, flags: int = 0x25) -> int:
        return world.mmu_update((holder << 12 | index << 3, entry(target, flags)))

    assert lead(first, 0, second, 0x27) == -Errno.EINVAL  # never writable
    assert lead(first, 0, second) == lead(first, 1, second) == lead(first, 2, first) == 0
    assert lead(third, 0, first) == -Errno.EINVAL
    assert lead(second, 0, third) == -Errno.EINVAL
    assert lead(third, 0, second) == 0
    assert lead(first, 0, 0, 0) == 0
    assert lead(third, 1, first) == -Errno.EINVAL
    assert lead(first, 1, 0, 0) == 0
    assert lead(third, 1, first) == 0
    assert lead(third, 0, 0, 0) == 0
    assert lead(second, 0, first) == 0
    assert world.mmuext(MMUEXT_UNPIN_TABLE, third) == world.mmuext(MMUEXT_UNPIN_TABLE, second) == 0
    assert world.type_of(first)[1] == 1
    assert world.mmuext(MMUEXT_UNPIN_TABLE, first) == 0
    assert [world.type_of(table)[1] for table in (first, second, third)] == [0, 0, 0]


def test_a_refused_update_changes_nothing(world: World) -> None:
    """Not even what is remembered about the user bit of a kernel half's entry."""
    assert world.mmu_update((L4 << 12 | 300 << 3, entry(L3, 0x67))) == 0
    before = world.page(L4)
    for value in (entry(L3, 0x63 | PSE), entry(L2, 0x63), entry(ALIEN, 0x63), entry(1 << 30, 0x63)):
        assert world.mmu_update((L4 << 12 | 300 << 3, value)) == -Errno.EINVAL
        assert world.mmu_update((L4 << 12 | 301 << 3, value | US)) == -Errno.EINVAL
        assert world.page(L4) == before


@pytest.mark.parametrize(
    ("before", "after", "noted"),
    [
        (entry(SPARE + 1, P), 0, True),
        (entry(SPARE + 1, P), entry(SPARE + 2, P), True),
        (entry(SPARE + 1, P), entry(SPARE + 1, P | NX), True),
        (entry(SPARE + 1, P | US), entry(SPARE + 1, P), True),
        (entry(SPARE + 1, P), entry(SPARE + 1, P | RW | US | A | D), False),
        (entry(SPARE + 1, P | NX), 0, False),
        (entry(SPARE + 1, P | NX), entry(SPARE + 2, P), False),
        (0, entry(SPARE + 1, P), False),
    ],
)
@pytest.mark.parametrize("how", ["update", "change_l1"])
def test_executable_pages_that_go_are_noted(
    world: World, before: int, after: int, noted: bool, how: str
) -> None:
    table = SPARE
    world.set_word(table, 0, before)
    assert world.lib.core_pin(world.state, table, 1) == 0
    world.state.code_unmapped = 0
    if how == "update":
        assert world.mmu_update((table << 12, after)) == 0
    else:
        assert world.lib.core_change_l1(world.state, table << 12, before, after) == 1
    assert bool(world.state.code_unmapped) == noted


def test_a_change_that_is_refused_unmaps_nothing(world: World) -> None:
    table = SPARE
    world.set_word(table, 0, entry(SPARE + 1, P))
    assert world.lib.core_pin(world.state, table, 1) == 0
    world.state.code_unmapped = 0
    assert world.mmu_update((table << 12, entry(ALIEN, P))) < 0
    assert world.lib.core_change_l1(world.state, table << 12, entry(SPARE + 2, P), 0) == 0
    assert not world.state.code_unmapped
