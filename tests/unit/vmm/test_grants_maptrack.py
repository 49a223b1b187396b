"""Handles of grant mappings."""

from hypothesis import given
from hypothesis import strategies as st

from xenion.vmm.grants_maptrack import PER_FRAME, Mapping, Maptrack


def test_handles_count_up_and_a_free_one_comes_last() -> None:
    maptrack = Maptrack(max_frames=1)
    first = [maptrack.take() for _ in range(3)]
    assert first == [0, 1, 2]
    maptrack.put(1)
    assert [maptrack.take() for _ in range(3)] == [3, 4, 5]


def test_one_handle_always_stays_behind() -> None:
    maptrack = Maptrack(max_frames=2)
    taken = [maptrack.take() for _ in range(2 * PER_FRAME - 1)]
    assert None not in taken
    assert len(set(taken)) == 2 * PER_FRAME - 1
    assert maptrack.take() is None
    maptrack.put(7)
    assert maptrack.take() is not None
    assert maptrack.take() is None


def test_flags_are_kept_in_16_bits() -> None:
    maptrack = Maptrack()
    handle = maptrack.take()
    assert handle is not None
    maptrack.set(handle, 9, 0x50002)
    assert maptrack.get(handle) == Mapping(9, 2)


@given(st.integers(0, 1 << 32))
def test_what_is_not_in_use_is_no_mapping(handle: int) -> None:
    maptrack = Maptrack()
    maptrack.take()
    assert maptrack.get(handle) is None


@given(st.lists(st.integers(0, 400), max_size=600))
def test_no_handle_is_given_out_twice(choices: list[int]) -> None:
    maptrack, used = Maptrack(max_frames=1), dict[int, int]()
    for choice in choices:
        if choice in used:
            del used[choice]
            maptrack.put(choice)
            assert maptrack.get(choice) is None
            continue
        handle = maptrack.take()
        assert (handle is None) == (len(used) == PER_FRAME - 1)
        if handle is not None:
            assert handle not in used
            used[handle] = choice
            maptrack.set(handle, choice, 1 + choice)
    assert {h: maptrack.get(h) for h in used} == {h: Mapping(c, 1 + c) for h, c in used.items()}
