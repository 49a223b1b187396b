"""A domain that xend has introduced: who it is, and its two clients of the store."""

from xenion.abi.io.xs_wire import (
    XENSTORE_SERVER_FEATURE_DOMID_ANY,
    XENSTORE_SERVER_FEATURE_ERROR,
    XENSTORE_SERVER_FEATURE_RECONNECTION,
    XENSTORE_SERVER_FEATURE_WATCHDEPTH,
)
from xenion.abi.xen import DOMID_FIRST_RESERVED
from xenion.dom0.xenstore.connection import Connection
from xenion.dom0.xenstore.quota import PROCESS, Quota
from xenion.dom0.xenstore.scope import Scope

FEATURES = (
    XENSTORE_SERVER_FEATURE_RECONNECTION
    | XENSTORE_SERVER_FEATURE_ERROR
    | XENSTORE_SERVER_FEATURE_WATCHDEPTH
    | XENSTORE_SERVER_FEATURE_DOMID_ANY
)
"""All that there are (xs_wire.h: XENSTORE_SERVER_FEATURE_*)."""


class Domain:
    """``guest`` speaks as the domain itself; ``process``, its process on the host, as domain 0 for this domain only."""

    def __init__(self, domid: int, uuid: str, quota: Quota) -> None:
        self.domid = domid
        self.uuid = uuid
        self.guest = Connection(domid, quota=quota, name=b"guest %d" % domid)
        self.process = Connection(0, quota=PROCESS, scope=Scope(domid, uuid), name=b"process %d" % domid)

    @property
    def connections(self) -> tuple[Connection, Connection]:
        return self.guest, self.process


def is_real(domid: int) -> bool:
    """Whether there can be a domain of that number beside domain 0 (xen.h)."""
    return 0 < domid < DOMID_FIRST_RESERVED
