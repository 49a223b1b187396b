"""io/console.h as gcc lays it out."""

from collections.abc import Callable

import pytest

from xenion.abi.io import console

# Each structure's fields with their offsets, and its size: gcc's numbers for the headers of Xen 4.17.
LAYOUTS: dict[type, str] = {
    console.XenconsInterface: (
        "in_ 0, out 1024, in_cons 3072, in_prod 3076, out_cons 3080, out_prod 3084; 3088"
    ),
}


@pytest.mark.parametrize("structure", LAYOUTS, ids=lambda structure: structure.__name__)
def test_layout(structure: type, describe: Callable[[type], str]) -> None:
    assert describe(structure) == LAYOUTS[structure]


def test_rings_are_powers_of_two_and_keep_zero_bytes() -> None:
    interface = console.XenconsInterface()
    for ring in (interface.in_, interface.out):
        assert len(ring) & (len(ring) - 1) == 0
        ring[:3] = [65, 0, 66]
        assert bytes(ring)[:3] == b"A\0B"
