"""callback.h as gcc lays it out."""

from collections.abc import Callable

import pytest

from xenion.abi import callback

# Each structure's fields with their offsets, and its size: gcc's numbers for the headers of Xen 4.17.
LAYOUTS: dict[type, str] = {
    callback.CallbackRegister: "type 0, flags 2, address 8; 16",
    callback.CallbackUnregister: "type 0, _unused 2; 4",
}


@pytest.mark.parametrize("structure", LAYOUTS, ids=lambda structure: structure.__name__)
def test_layout(structure: type, describe: Callable[[type], str]) -> None:
    assert describe(structure) == LAYOUTS[structure]


def test_numbers() -> None:
    assert (callback.CALLBACKTYPE_sysenter, callback.CALLBACKTYPE_syscall32) == (5, 7)
    assert callback.CALLBACKF_mask_events == 1
