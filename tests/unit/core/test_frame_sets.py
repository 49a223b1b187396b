"""Frames that other threads leave to the vCPU's: written by Dom0, or dropped by it last."""

import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.core.profiles import examples
from tests.unit.core.scripted import Core
from tests.unit.core.world import ALLOCATED, PAGE, SPARE, World

FRAMES = 64 * 64 * 2 + 65
"""Two upper words and a bit more."""


def wrote(world: World, *mfns: int) -> None:
    world.lib.core_host_wrote(world.state, list(mfns), len(mfns))


def forgotten(world: World) -> tuple[int, int]:
    """(pages whose code was forgotten since the last time, the last of them)."""
    pages = world.script.written // PAGE
    world.script.written = 0
    return pages, int(world.script.written_frame)


def test_a_frame_without_code_does_not_disturb_the_vcpu(world: World) -> None:
    wrote(world, SPARE)
    assert world.script.woken[0] == 0
    world.lib.core_kicked(world.vcpu)
    assert forgotten(world)[0] == 0


def test_a_frame_with_code_is_seen_to_when_the_vcpu_is_kicked(world: World) -> None:
    """Its events are masked all the while."""
    world.script.code = 1
    wrote(world, SPARE)
    assert world.script.woken[0] == 1
    assert forgotten(world)[0] == 0, "the other thread does not touch the processor"
    world.lib.core_kicked(world.vcpu)
    assert forgotten(world) == (1, SPARE)
    world.lib.core_kicked(world.vcpu)
    assert forgotten(world)[0] == 0


def test_many_frames_cost_one_kick(world: World) -> None:
    world.script.code = 1
    wrote(world, SPARE, SPARE + 1, SPARE + 1, SPARE + 2)
    assert world.script.woken[0] == 1
    world.lib.core_kicked(world.vcpu)
    assert forgotten(world)[0] == 3


def test_what_was_written_without_code_goes_along(world: World) -> None:
    wrote(world, SPARE)
    world.script.code = 1
    wrote(world, SPARE + 1)
    world.lib.core_kicked(world.vcpu)
    assert forgotten(world)[0] == 2


@pytest.mark.parametrize("mfn", [32, 1 << 20, 2**64 - 1])
def test_frames_that_are_not_there(world: World, mfn: int) -> None:
    world.script.code = 1
    wrote(world, mfn)
    world.lib.core_drop_frame(world.state, mfn, 1)
    world.lib.core_kicked(world.vcpu)
    assert forgotten(world)[0] == 0


@pytest.fixture(scope="module")
def large(core: Core) -> Iterator[World]:
    with World(core, nr_frames=FRAMES) as made:
        yield made


@examples(50)
@given(mfns=st.sets(st.integers(0, FRAMES - 1), max_size=40))
def test_each_frame_is_seen_to_once(large: World, mfns: set[int]) -> None:
    large.script.code = 1
    wrote(large, *mfns, *mfns)
    large.lib.core_kicked(large.vcpu)
    pages, last = forgotten(large)
    assert pages == len(mfns)
    assert not mfns or last == max(mfns)
    assert not any(large.ffi.unpack(large.state.written.frames, -(-FRAMES // 64)))


def test_threads_that_write_neighbours_lose_none(large: World) -> None:
    """They share a word, which the vCPU takes all the while."""
    large.script.code = 1
    done = threading.Barrier(3)

    def write(first: int) -> None:
        for mfn in range(first, FRAMES, 2):
            wrote(large, mfn)
        done.wait()

    threads = [threading.Thread(target=write, args=[first]) for first in range(2)]
    for thread in threads:
        thread.start()
    while done.n_waiting < 2:
        large.lib.core_kicked(large.vcpu)
    done.wait()
    large.lib.core_kicked(large.vcpu)
    for thread in threads:
        thread.join()
    assert forgotten(large)[0] == FRAMES


def test_last_reference_is_left_to_the_vcpu(world: World) -> None:
    assert world.lib.core_get_writable(world.state, SPARE) == 0
    assert world.lib.core_release_frame(world.state, SPARE) == 0
    world.lib.core_drop_frame(world.state, SPARE, 1)
    assert world.script.freed == 0
    assert world.frame(SPARE).count == 1
    world.lib.core_kicked(world.vcpu)
    assert (world.script.freed, world.script.freed_frames[0]) == (1, SPARE)
    assert world.frame(SPARE).count == 0


def test_other_references_are_dropped_at_once(world: World) -> None:
    assert world.lib.core_get_writable(world.state, SPARE) == 0
    world.lib.core_drop_frame(world.state, SPARE, 1)
    assert world.frame(SPARE).count == ALLOCATED | 1
    assert world.type_of(SPARE) == (0, 0)
    world.lib.core_kicked(world.vcpu)
    assert world.script.freed == 0


def test_frame_that_is_taken_again_before_the_vcpu_looks(world: World) -> None:
    """Its kept reference counts, so it is freed by whoever is last."""
    assert world.lib.core_get_frame(world.state, SPARE) == 0
    assert world.lib.core_release_frame(world.state, SPARE) == 0
    world.lib.core_drop_frame(world.state, SPARE, 0)
    assert world.lib.core_get_frame(world.state, SPARE) == 0
    world.lib.core_kicked(world.vcpu)
    assert world.script.freed == 0
    world.lib.core_drop_frame(world.state, SPARE, 0)
    world.lib.core_kicked(world.vcpu)
    assert world.script.freed == 1
