"""Types and counts of frames where sequences of hypercalls do not reach: depth, sharing, wild frame numbers."""

import multiprocessing
from pathlib import Path

import pytest

from tests.unit.core.scripted import Core, load_core
from tests.unit.core.world import ALIEN, PAGE, SHARED_INFO, SPARE, US, A, P, World, entry
from xenion.abi.errno import Errno
from xenion.abi.xen import MMUEXT_PIN_L4_TABLE, MMUEXT_UNPIN_TABLE

CHAIN = 100_000
"""Frames of a domain of 400 MiB."""


def unpin_a_chain(library: Path) -> None:
    """Linear tables, each kept by the one before only: the first lets go of all."""
    with World(load_core(library), SPARE + CHAIN + 1) as world:
        tables = range(SPARE, SPARE + CHAIN)
        for table in tables:
            if table != SPARE:
                world.set_word(table, 0, entry(table - 1, P | US | A))
            assert world.mmuext(MMUEXT_PIN_L4_TABLE, table) == 0
            if table != SPARE:
                assert world.mmuext(MMUEXT_UNPIN_TABLE, table - 1) == 0
        assert world.mmuext(MMUEXT_UNPIN_TABLE, tables[-1]) == 0
        assert all(world.type_of(table)[1] == 0 for table in tables)


def test_a_chain_of_linear_tables_does_not_exhaust_the_stack(library: Path) -> None:
    """In a process of its own: the guest must not be able to end this one. Refusing such chains is as good."""
    process = multiprocessing.get_context("spawn").Process(target=unpin_a_chain, args=(library,))
    process.start()
    process.join()
    assert process.exitcode in (0, 1), f"signal {-(process.exitcode or 0)}"


@pytest.mark.parametrize("mfn", [0, ALIEN, 1 << 31, 1 << 40, (1 << 52) - 1, 2**64 - 1])
def test_frames_that_are_not_the_domains(world: World, mfn: int) -> None:
    state = world.state
    assert world.lib.core_get_writable(state, mfn) == -Errno.EINVAL
    assert world.lib.core_release_frame(state, mfn) == -Errno.EINVAL
    assert world.lib.core_pin(state, mfn, 1) == -Errno.EINVAL
    assert not world.lib.core_owns_frame(state, mfn)
    assert world.mmuext(MMUEXT_UNPIN_TABLE, mfn) == -Errno.EINVAL


def test_a_shared_frame_is_never_a_table_nor_given_back(world: World) -> None:
    assert world.lib.core_pin(world.state, SHARED_INFO, 1) == -Errno.EINVAL
    assert world.lib.core_release_frame(world.state, SHARED_INFO) == -Errno.EINVAL
    assert world.lib.core_get_writable(world.state, SHARED_INFO) == 0
    world.lib.core_drop_frame(world.state, SHARED_INFO, 1)


def test_all_frames_can_be_taken_and_given_back(core: Core) -> None:
    with World(core) as world:
        frames = range(SPARE, world.nr_frames)
        for mfn in frames:
            assert world.lib.core_release_frame(world.state, mfn) == 0
        assert world.lib.core_release_frame(world.state, SPARE) == -Errno.EINVAL
        assert list(world.script.freed_frames[0 : len(frames)]) == list(frames)
        taken = [world.lib.core_allocate_frame(world.state) for _ in frames]
        assert sorted(taken) == list(frames)
        assert world.lib.core_allocate_frame(world.state) == -Errno.ENOMEM
        assert world.state.pages == world.nr_frames - 8


def test_a_released_frame_stays_until_its_last_mapping_goes(world: World) -> None:
    table, data = SPARE, SPARE + 1
    world.set_word(table, 0, entry(data))
    assert world.lib.core_pin(world.state, table, 1) == 0
    assert world.lib.core_release_frame(world.state, data) == 0
    assert world.script.freed == 0
    assert world.mmu_update((table * PAGE, 0)) == 0
    assert (world.script.freed, world.script.freed_frames[0]) == (1, data)
