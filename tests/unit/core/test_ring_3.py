"""A guest's kernel in ring 3: the user bit is in all that it maps, its applications' tables have a hole of their own,
and the processor is told of each entry that was present and of each table that begins."""

from collections.abc import Iterator

import pytest

from tests.unit.core.scripted import Core
from tests.unit.core.world import (
    AREAS,
    L1,
    L3,
    L4,
    NX,
    PAGE,
    PCD,
    RW,
    SPARE,
    SPARE_PAGE,
    US,
    A,
    D,
    P,
    World,
    entry,
)
from xenion.abi.xen import MMUEXT_NEW_BASEPTR, MMUEXT_NEW_USER_BASEPTR, MMUEXT_PIN_L4_TABLE, Hypercall

HOLE_SLOT = 257
CLOSED = P | RW | A | D


@pytest.fixture
def world(core: Core) -> Iterator[World]:
    with World(core, ring_3=True) as made:
        yield made


def test_a_table_gets_the_bit_when_it_becomes_one(world: World) -> None:
    world.set_word(SPARE, 3, entry(SPARE + 1, CLOSED))
    world.set_word(SPARE, 4, entry(SPARE + 1, PCD))
    assert world.lib.core_pin(world.state, SPARE, 1) == 0
    assert world.page(SPARE)[3:5] == [entry(SPARE + 1, CLOSED | US), entry(SPARE + 1, PCD)]


def test_so_does_what_is_written_into_one(world: World) -> None:
    assert world.mmu_update((L1 * PAGE + 8 * SPARE_PAGE, entry(SPARE, CLOSED))) == 0
    assert world.word(L1, SPARE_PAGE) == entry(SPARE, CLOSED | US)
    address = world.spare_address(SPARE)
    assert world.hypercall(Hypercall.update_va_mapping, address, entry(SPARE, P | NX), 0) == 0
    assert world.word(L1, SPARE_PAGE) == entry(SPARE, P | NX | US)
    assert world.hypercall(Hypercall.update_va_mapping, address, entry(SPARE, RW), 0) == 0
    assert world.word(L1, SPARE_PAGE) == entry(SPARE, RW)


def test_a_compared_change_too(world: World) -> None:
    world.set_word(SPARE, 0, entry(SPARE + 1, CLOSED | US))
    assert world.lib.core_pin(world.state, SPARE, 1) == 0
    assert (
        world.lib.core_change_l1(
            world.state, SPARE * PAGE, entry(SPARE + 1, CLOSED | US), entry(SPARE + 1, P)
        )
        == 1
    )
    assert world.word(SPARE, 0) == entry(SPARE + 1, P | US)


def pinned_l4(world: World, mfn: int = SPARE) -> int:
    world.set_word(mfn, 511, entry(L3, CLOSED))
    world.set_word(mfn, 256, 0x123456)
    world.set_word(mfn, 260, 0x123456)
    assert world.mmuext(MMUEXT_PIN_L4_TABLE, mfn) == 0
    return mfn


def hole(world: World, mfn: int) -> int:
    assert [world.word(mfn, slot) for slot in range(256, 272) if slot != HOLE_SLOT] == [0] * 15
    return world.word(mfn, HOLE_SLOT)


def test_each_kind_of_table_has_its_hole(world: World) -> None:
    state = world.state
    assert state.hole_entry != state.user_hole_entry
    assert hole(world, L4) == state.hole_entry
    table = pinned_l4(world)
    assert hole(world, table) == state.user_hole_entry
    assert world.mmuext(MMUEXT_NEW_USER_BASEPTR, table) == 0
    assert hole(world, table) == state.user_hole_entry
    assert world.word(table, 511) == entry(L3, CLOSED | US)


def test_a_table_that_serves_as_both_shows_the_kernels(world: World) -> None:
    assert world.mmuext(MMUEXT_NEW_USER_BASEPTR, L4) == 0
    assert hole(world, L4) == world.state.hole_entry
    table = pinned_l4(world)
    assert world.mmuext(MMUEXT_NEW_USER_BASEPTR, table) == 0
    assert world.mmuext(MMUEXT_NEW_BASEPTR, table) == 0
    assert hole(world, table) == world.state.hole_entry


def test_a_kernels_table_that_becomes_an_applications_shows_less_again(world: World) -> None:
    table = pinned_l4(world)
    assert world.mmuext(MMUEXT_NEW_BASEPTR, table) == 0
    world.script.entries_changed = 0
    assert world.mmuext(MMUEXT_NEW_USER_BASEPTR, L4) == 0
    assert hole(world, L4) == world.state.user_hole_entry
    assert (world.script.entries_changed, world.script.changed_entry) == (1, L4 * PAGE + 8 * HOLE_SLOT)


def test_applications_never_run_on_the_kernels_table(world: World) -> None:
    """Their lower halves are equal, which elsewhere would do."""
    table = pinned_l4(world)
    assert world.mmuext(MMUEXT_NEW_USER_BASEPTR, table) == 0
    frame = world.put_words([0, 0, 0, 0, 0x400000, 0xE033, 0x202, 0x410000, 0xE02B])
    world.vcpu.regs[4] = frame
    world.vcpu.regs[0] = Hypercall.iret
    world.lib.core_syscall(world.vcpu, 0)
    assert not world.vcpu.kernel_mode
    assert world.vcpu.loaded_cr3 == table * PAGE


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (entry(SPARE + 1, P), 0, True),
        (entry(SPARE + 1, P | RW), entry(SPARE + 1, P), True),
        (entry(SPARE + 1, P), entry(SPARE + 2, P), True),
        (0, entry(SPARE + 1, P), False),
        (entry(SPARE + 1, RW), entry(SPARE + 2, P), False),
    ],
)
def test_the_processor_is_told_of_entries_that_were_present(
    world: World, before: int, after: int, told: bool
) -> None:
    world.set_word(SPARE, 5, before)
    begun = world.script.tables_begun
    assert world.lib.core_pin(world.state, SPARE, 1) == 0
    assert world.script.tables_begun == begun + 1
    world.script.entries_changed = 0
    assert world.mmu_update((SPARE * PAGE + 40, after)) == 0
    assert world.script.entries_changed == told
    assert not told or world.script.changed_entry == SPARE * PAGE + 40


def test_and_of_the_pages_of_descriptors(world: World) -> None:
    world.script.entries_changed = 0
    assert world.hypercall(Hypercall.set_gdt, world.put_words([SPARE]), 512) == 0
    assert world.script.entries_changed == 14 + 1
    assert world.script.changed_entry == AREAS * PAGE
