"""Which frames a saved domain has, and what a new one takes."""

import itertools
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.core.profiles import examples
from tests.unit.core.scripted import Core
from tests.unit.core.world import (
    ALIEN,
    ALLOCATED,
    FIRST,
    L4,
    PAGE,
    SEGMENT_TYPE,
    SHARED_INFO,
    SPARE,
    TYPE_SHIFT,
    US,
    A,
    P,
    World,
    entry,
)
from xenion.abi.errno import Errno
from xenion.abi.xen import MMUEXT_UNPIN_TABLE

FRAMES = 40
MASK = (1 << 64) - 1
FREE, OWNED, LEAVING = 0, ALLOCATED | 1, 1
WILD = (0, 1, FIRST - 1, FIRST, FRAMES - 1, FRAMES, 1 << 31, 1 << 32, 1 << 63, MASK - 1, MASK)


@pytest.fixture
def bare(core: Core) -> Iterator[World]:
    """One whose own frames are what a test says."""
    with World(core, nr_frames=FRAMES) as world:
        for mfn in range(FIRST, FRAMES):
            world.frame(mfn).count = world.frame(mfn).type = 0
        world.state.pages = 0
        yield world


def runs(world: World, start: int = 0) -> list[tuple[int, int]]:
    found, count, at = [], world.ffi.new("uint64_t *"), start
    while first := world.lib.core_used_run(world.state, at, count):
        found.append((int(first), int(count[0])))
        at = first + count[0]
    assert count[0] == 0
    return found


def special(world: World, room: int = 4096, start: int = 0) -> list[tuple[int, int]]:
    """(frame, level), fetched ROOM at a time."""
    at, words = world.ffi.new("uint64_t *", start), world.ffi.new("uint64_t[]", room + 1)
    found = []
    words[room] = MASK
    while count := world.lib.core_special_frames(world.state, at, words, room):
        assert count <= room
        found += [(word & (1 << TYPE_SHIFT) - 1, word >> TYPE_SHIFT) for word in words[0:count]]
    assert words[room] == MASK, "it wrote past the end"
    return found


def grouped(mfns: list[int]) -> list[tuple[int, int]]:
    groups = itertools.groupby(enumerate(sorted(mfns)), lambda pair: pair[1] - pair[0])
    listed = [[mfn for _, mfn in group] for _, group in groups]
    return [(group[0], len(group)) for group in listed]


def clear(world: World) -> None:
    for mfn in range(FIRST, world.nr_frames):
        world.frame(mfn).count = world.frame(mfn).type = 0
    world.state.pages = 0


# --- runs


def test_a_new_domain_is_one_run(world: World) -> None:
    assert runs(world) == [(FIRST, world.nr_frames - FIRST)]


def test_frames_of_the_hypervisor_are_in_no_run(world: World) -> None:
    """Though guests may map some of them."""
    assert world.frame(SHARED_INFO).count
    assert all(first >= FIRST for first, _ in runs(world, 0))


@pytest.mark.parametrize("start", WILD)
def test_wherever_the_search_begins(bare: World, start: int) -> None:
    bare.lib.core_adopt_run(bare.state, FIRST, FRAMES)
    expected = max(start, FIRST)
    assert runs(bare, start) == ([(expected, FRAMES - expected)] if expected < FRAMES else [])


@examples(150)
@given(
    kinds=st.lists(st.sampled_from([FREE, OWNED, LEAVING]), min_size=FRAMES - FIRST, max_size=FRAMES - FIRST)
)
def test_any_frames_in_runs(core: Core, kinds: list[int]) -> None:
    """Those that were given back and are still mapped are among them."""
    with World(core, nr_frames=FRAMES) as world:
        for mfn, kind in enumerate(kinds, FIRST):
            world.frame(mfn).count = kind
        assert runs(world) == grouped([mfn for mfn, kind in enumerate(kinds, FIRST) if kind])


# --- adopting


@pytest.mark.parametrize(
    ("first", "count", "expected"),
    [
        (FIRST, 0, []),
        (FIRST, 1, [(FIRST, 1)]),
        (FRAMES - 1, 1, [(FRAMES - 1, 1)]),
        (FRAMES - 1, MASK, [(FRAMES - 1, 1)]),
        (FIRST, MASK, [(FIRST, FRAMES - FIRST)]),
        (FRAMES, 1, []),
        (FIRST - 1, 2, []),
        (0, MASK, []),
        (ALIEN, 1, []),
        (MASK, 2, []),
        (MASK, MASK, []),
        (1 << 63, MASK, []),
        (1 << 32 | FIRST, 1, []),
    ],
)
def test_a_run_that_is_adopted(bare: World, first: int, count: int, expected: list[tuple[int, int]]) -> None:
    before = [bare.frame(mfn).count for mfn in range(FIRST)]
    bare.lib.core_adopt_run(bare.state, first, count)
    assert runs(bare) == expected
    assert bare.state.pages == sum(length for _, length in expected)
    assert [bare.frame(mfn).count for mfn in range(FIRST)] == before


def test_frames_that_are_the_domains_already_stay_as_they_are(world: World) -> None:
    assert world.lib.core_get_frame(world.state, SPARE) == 0
    before, pages = [world.frame(mfn).count for mfn in range(world.nr_frames)], world.state.pages
    world.lib.core_adopt_run(world.state, FIRST, MASK)
    assert [world.frame(mfn).count for mfn in range(world.nr_frames)] == before
    assert world.state.pages == pages


def test_a_frame_that_is_leaving_is_not_adopted(bare: World) -> None:
    bare.frame(SPARE).count = LEAVING
    bare.lib.core_adopt_run(bare.state, SPARE, 2)
    assert [bare.frame(mfn).count for mfn in (SPARE, SPARE + 1)] == [LEAVING, OWNED]
    assert bare.state.pages == 1


@examples(150)
@given(
    wanted=st.lists(
        st.tuples(st.one_of(st.sampled_from(WILD), st.integers(0, FRAMES + 4)), st.integers(0, FRAMES)),
        max_size=8,
    )
)
def test_any_runs(core: Core, wanted: list[tuple[int, int]]) -> None:
    """They may overlap, and lead anywhere: whatever is not the domain's is left out."""
    with World(core, nr_frames=FRAMES) as world:
        clear(world)
        expected: set[int] = set()
        for first, count in wanted:
            world.lib.core_adopt_run(world.state, first, count)
            if FIRST <= first < FRAMES:
                expected.update(range(first, min(first + count, FRAMES)))
        assert runs(world) == grouped(list(expected))
        assert world.state.pages == len(expected)
        assert all(world.type_of(mfn) == (0, 0) for mfn in expected)


def test_what_is_adopted_is_the_domains_to_give_back(bare: World) -> None:
    bare.lib.core_adopt_run(bare.state, SPARE, 3)
    for mfn in (SPARE, SPARE + 2):
        assert bare.lib.core_release_frame(bare.state, mfn) == 0
    assert bare.lib.core_release_frame(bare.state, SPARE) == -Errno.EINVAL
    assert runs(bare) == [(SPARE + 1, 1)]
    assert bare.state.pages == 1


# --- special frames


def test_a_new_domains_table_is_pinned(world: World) -> None:
    assert special(world) == [(L4, 4)]


def test_tables_of_all_levels(world: World) -> None:
    """Those that are only led to are not among them."""
    for level in (1, 2, 3):
        assert world.lib.core_pin(world.state, SPARE + level, level) == 0
    assert special(world) == [(L4, 4), (SPARE + 1, 1), (SPARE + 2, 2), (SPARE + 3, 3)]
    assert world.mmuext(MMUEXT_UNPIN_TABLE, SPARE + 2) == 0
    assert special(world) == [(L4, 4), (SPARE + 1, 1), (SPARE + 3, 3)]


def test_a_frame_that_was_given_back_until_its_last_mapping_goes(world: World) -> None:
    table, data = SPARE, SPARE + 1
    world.set_word(table, 0, entry(data))
    assert world.lib.core_pin(world.state, table, 1) == 0
    assert world.lib.core_release_frame(world.state, data) == 0
    assert special(world) == [(L4, 4), (table, 1), (data, world.lib.FRAME_LEAVING)]
    assert world.mmu_update((table * PAGE, 0)) == 0
    assert special(world) == [(L4, 4), (table, 1)]


def test_a_table_that_is_pinned_and_was_given_back(world: World) -> None:
    """It is both, or it would be the domain's again."""
    assert world.lib.core_pin(world.state, SPARE, 1) == 0
    assert world.lib.core_release_frame(world.state, SPARE) == 0
    assert sorted(special(world)) == [(L4, 4), (SPARE, world.lib.FRAME_LEAVING), (SPARE, 1)]


def test_shared_frames_are_nothing_special(world: World) -> None:
    """They have no owner either."""
    assert not world.frame(SHARED_INFO).count & ALLOCATED
    assert all(mfn >= FIRST for mfn, _ in special(world))


def test_descriptors_are_pinned_by_nobody(world: World) -> None:
    assert world.lib.core_get_frame(world.state, SPARE) == 0
    world.frame(SPARE).type = SEGMENT_TYPE << TYPE_SHIFT | 1
    assert special(world) == [(L4, 4)]


@pytest.mark.parametrize("room", [2, 3, 4, 5, 6])
def test_room_for_a_few_at_a_time(world: World, room: int) -> None:
    """None is told twice, none is left out, nothing is written behind the room."""
    tables = range(SPARE, SPARE + 4)
    for table in tables:
        assert world.lib.core_pin(world.state, table, 1) == 0
    assert special(world, room) == [(L4, 4), *((table, 1) for table in tables)]


def test_no_room(world: World) -> None:
    at, words = world.ffi.new("uint64_t *", 0), world.ffi.new("uint64_t[1]", [MASK])
    assert world.lib.core_special_frames(world.state, at, words, 0) == 0
    assert words[0] == MASK


@pytest.mark.parametrize("start", WILD)
def test_wherever_the_looking_begins(world: World, start: int) -> None:
    expected = [(L4, 4)] if start <= L4 else []
    assert special(world, start=start) == expected


def test_a_linear_table_is_as_before_in_a_new_domain(core: Core) -> None:
    """Each is told with its own level, whatever else leads to it."""
    with World(core) as world:
        world.set_word(SPARE, 0, entry(SPARE, P | US | A))
        assert world.lib.core_pin(world.state, SPARE, 4) == 0
        assert special(world) == [(L4, 4), (SPARE, 4)]


# --- a vCPU that is set up anew


def test_a_vcpu_is_finished_with_its_own_registers_loaded(core: Core) -> None:
    with World(core, nr_vcpus=2) as world:
        script, second = world.script, world.state.vcpus + 1
        second.task_switched = 1
        before, version = script.loads, world.memory[second.info + 32]
        world.lib.core_finish_vcpu(second, world.vcpu)
        assert list(script.loaded_vcpus[before : before + 2]) == [1, 0]
        assert (script.loaded, script.misplaced, script.armed) == (0, 0, 1)
        assert world.memory[second.info + 32] == (version | 1) + 1
