"""io/xenbus.h."""

from xenion.abi.io.xenbus import XenbusState


def test_states_in_order() -> None:
    assert [state.name for state in XenbusState] == [
        "Unknown",
        "Initialising",
        "InitWait",
        "Initialised",
        "Connected",
        "Closing",
        "Closed",
        "Reconfiguring",
        "Reconfigured",
    ]
    assert [state.value for state in XenbusState] == list(range(9))
