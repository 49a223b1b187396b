"""GDT, LDT and single descriptors: what is refused, what is changed on the way in, where they are mapped."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.core.model import RefusedError, checked_descriptor
from tests.unit.core.profiles import examples
from tests.unit.core.scripted import Core
from tests.unit.core.world import (
    ALIEN,
    AREAS,
    GDT_AREA,
    L1,
    L4,
    NX,
    PAGE,
    SEGMENT_TYPE,
    SHARED_INFO,
    SPARE,
    ZERO_PAGE,
    A,
    D,
    P,
    World,
    entry,
)
from xenion.abi.arch_x86_64 import FIRST_RESERVED_GDT_ENTRY
from xenion.abi.errno import Errno
from xenion.abi.xen import MMUEXT_SET_LDT, Hypercall

CODE_SEGMENT = 0x00AF9B000000FFFF
MAPPED = P | A | D | NX
LDT_WINDOW = GDT_AREA + 0x10000

descriptors = st.one_of(
    st.integers(0, 2**64 - 1),
    st.builds(
        lambda low, kind: low & ~(0xFF << 40) | kind << 40, st.integers(0, 2**64 - 1), st.integers(0x80, 0xFF)
    ),
    st.sampled_from([0xE033, 0xE031, 0xE000, 0xE008, 0xDFF8, 4, 0xE004]).map(lambda s: 0x8C << 40 | s << 16),
)


def set_gdt(world: World, frames: list[int], entries: int) -> int:
    return world.hypercall(Hypercall.set_gdt, world.put(struct.pack(f"<{len(frames)}Q", *frames)), entries)


def checked(value: int) -> int | None:
    try:
        return checked_descriptor(value)
    except RefusedError:
        return None


@examples(200)
@given(value=descriptors, index=st.integers(0, 511), as_table=st.booleans())
def test_update_descriptor(core: Core, value: int, index: int, as_table: bool) -> None:
    with World(core) as world:
        if as_table:
            assert set_gdt(world, [SPARE], 512) == 0
        rc = world.hypercall(Hypercall.update_descriptor, SPARE * PAGE + index * 8, value)
        expected = checked(value)
        assert rc == (0 if expected is not None else -Errno.EINVAL)
        assert world.word(SPARE, index) == (expected or 0)


@examples(150)
@given(values=st.dictionaries(st.integers(0, 511), descriptors, max_size=4))
def test_a_page_of_descriptors(core: Core, values: dict[int, int]) -> None:
    with World(core) as world:
        for index, value in values.items():
            world.set_word(SPARE, index, value)
        results = {index: checked(value) for index, value in values.items()}
        rc = set_gdt(world, [SPARE], 512)
        if None in results.values():
            assert rc == -Errno.EINVAL
            assert world.type_of(SPARE) == (0, 0)
            assert world.word(AREAS, 0) == entry(ZERO_PAGE, MAPPED)
        else:
            assert rc == 0
            assert {index: world.word(SPARE, index) for index in values} == results
            assert world.type_of(SPARE) == (SEGMENT_TYPE, 1)
            assert world.word(AREAS, 0) == entry(SPARE, MAPPED)


@pytest.mark.parametrize("entries", [0, 1, 512, 513, 1024, 1025, FIRST_RESERVED_GDT_ENTRY])
def test_as_many_frames_as_entries_need(core: Core, entries: int) -> None:
    with World(core, nr_frames=SPARE + 20) as world:
        frames = list(range(SPARE, SPARE + 14))
        assert set_gdt(world, frames, entries) == 0
        used = -(-entries // 512)
        assert [world.type_of(mfn)[1] for mfn in frames] == [1] * used + [0] * (14 - used)
        assert world.vcpu.gdt_entries == entries
        assert set_gdt(world, [], 0) == 0
        assert all(world.type_of(mfn)[1] == 0 for mfn in frames)
        assert [world.word(AREAS, page) for page in range(14)] == [entry(ZERO_PAGE, MAPPED)] * 14


@pytest.mark.parametrize("entries", [FIRST_RESERVED_GDT_ENTRY + 1, 8192, 2**31, 2**32 - 1])
def test_a_gdt_that_is_too_long(world: World, entries: int) -> None:
    assert set_gdt(world, [SPARE] * 16, entries) == -Errno.EINVAL


@pytest.mark.parametrize("bad", [0, ALIEN, L4, L1, SHARED_INFO, 1 << 40, 2**64 - 1])
def test_a_bad_frame_leaves_the_old_gdt(world: World, bad: int) -> None:
    assert set_gdt(world, [SPARE], 512) == 0
    assert set_gdt(world, [SPARE + 1, SPARE, bad], 1536) == -Errno.EINVAL
    assert world.vcpu.gdt_frames[0] == SPARE
    assert (world.type_of(SPARE)[1], world.type_of(SPARE + 1)[1]) == (1, 0)


@pytest.mark.parametrize("ma", [SPARE * PAGE + 4, L4 * PAGE, L1 * PAGE, ALIEN * PAGE, 0, 1 << 52, 2**64 - 8])
def test_places_that_take_no_descriptor(world: World, ma: int) -> None:
    assert world.hypercall(Hypercall.update_descriptor, ma, CODE_SEGMENT) == -Errno.EINVAL


@pytest.mark.parametrize(
    ("base", "entries", "rc"),
    [
        (0x1000, 1, 0),
        (0x1000, 8192, 0),
        (0x1000, 8193, -Errno.EINVAL),
        (0x1008, 1, -Errno.EINVAL),
        (0xFFFF800000000000, 1, -Errno.EINVAL),
        ((1 << 47) - 0x1000, 8192, -Errno.EINVAL),
        (2**64 - 0x1000, 8192, -Errno.EINVAL),
        (0x1234, 0, 0),
    ],
)
def test_set_ldt(world: World, base: int, entries: int, rc: int) -> None:
    assert world.mmuext(MMUEXT_SET_LDT, base, entries) == rc
    if not rc:
        assert (world.vcpu.ldt_base, world.vcpu.ldt_entries) == ((base if entries else 0), entries)


def test_an_ldt_page_is_mapped_at_its_first_fault(core: Core) -> None:
    with World(core, read_only=[SPARE]) as world:
        world.set_word(SPARE, 5, CODE_SEGMENT)
        assert world.mmuext(MMUEXT_SET_LDT, world.spare_address(SPARE), 512) == 0
        rip = world.vcpu.rip
        world.lib.core_page_fault(world.vcpu, LDT_WINDOW + 40, 0)
        assert world.vcpu.rip == rip
        assert world.word(AREAS, 16) == entry(SPARE, MAPPED)
        assert world.type_of(SPARE) == (SEGMENT_TYPE, 1)
        assert world.word(SPARE, 5) == checked_descriptor(CODE_SEGMENT)
        assert world.mmuext(MMUEXT_SET_LDT, 0, 0) == 0
        assert world.type_of(SPARE) == (0, 0)
        assert world.word(AREAS, 16) == 0


@pytest.mark.parametrize("offset", [512 * 8, 0xFFF8, 0x10000])
def test_faults_beyond_the_ldt_are_the_guests(core: Core, offset: int) -> None:
    with World(core, read_only=[SPARE]) as world:
        assert world.mmuext(MMUEXT_SET_LDT, world.spare_address(SPARE), 512) == 0
        world.lib.core_page_fault(world.vcpu, LDT_WINDOW + offset, 0)
        assert world.faulted(14)
        assert world.type_of(SPARE) == (0, 0)
