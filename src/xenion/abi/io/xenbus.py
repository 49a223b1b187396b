"""io/xenbus.h: states of a split driver's two ends."""

from enum import IntEnum


class XenbusState(IntEnum):
    """io/xenbus.h: ``enum xenbus_state``, ``XenbusState*``."""

    Unknown = 0
    Initialising = 1
    InitWait = 2
    Initialised = 3
    Connected = 4
    Closing = 5
    Closed = 6
    Reconfiguring = 7
    Reconfigured = 8
