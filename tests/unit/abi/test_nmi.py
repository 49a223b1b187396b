"""nmi.h as gcc lays it out."""

from collections.abc import Callable

import pytest

from xenion.abi import nmi

# Each structure's fields with their offsets, and its size: gcc's numbers for the headers of Xen 4.17.
LAYOUTS: dict[type, str] = {
    nmi.XennmiCallback: "handler_address 0, pad 8; 16",
}


@pytest.mark.parametrize("structure", LAYOUTS, ids=lambda structure: structure.__name__)
def test_layout(structure: type, describe: Callable[[type], str]) -> None:
    assert describe(structure) == LAYOUTS[structure]


def test_numbers() -> None:
    assert (nmi.XENNMI_register_callback, nmi.XENNMI_unregister_callback) == (0, 1)
    assert nmi.XEN_NMIREASON_unknown == 4
