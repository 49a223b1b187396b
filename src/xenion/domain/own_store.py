"""A store of the domain's own within its process: for guests that run without xend, in tests and tools."""

import socket

from xenion.dom0.loop import Loop
from xenion.dom0.xenstore.server import XenstoreServer
from xenion.domain.store import DomainStore


def own_store(loop: Loop, store: DomainStore, domid: int, uuid: str) -> XenstoreServer:
    """Connects `store`; before the loop runs, or on its thread. The server is the caller's to close."""
    server = XenstoreServer(loop)
    guest, guests_end = socket.socketpair()
    back_ends, back_ends_end = socket.socketpair()
    server.introduce(domid, uuid, guests_end, back_ends_end)
    store.connect(guest, back_ends)
    return server
