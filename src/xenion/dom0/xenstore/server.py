"""Serves a store to its clients over stream sockets. Who somebody is comes with the socket, never from a message.

A turn of the loop serves a share of each client's requests; then all that has changed is kept, and only then are
answers and events sent.
"""

import socket
from time import monotonic
from typing import Protocol

from xenion.abi.errno import Errno
from xenion.dom0.listener import Listener
from xenion.dom0.loop import Loop, Timer
from xenion.dom0.xenstore.channel import Channel
from xenion.dom0.xenstore.connection import Connection
from xenion.dom0.xenstore.domains import Domain, is_real
from xenion.dom0.xenstore.errors import StoreError
from xenion.dom0.xenstore.paths import is_component
from xenion.dom0.xenstore.store import Store

BACKLOG = 128
WORK_REST = 9


class Keeper(Protocol):
    """Keeps what a store is (xenion.dom0.xenstore.statefile)."""

    def commit(self) -> None:
        """All changes so far are kept."""

    @property
    def has_work(self) -> bool:
        """`work` has something to do, when there is time."""

    def work(self) -> None:
        """Do a share of it."""


class NoKeeper:
    """Of a store that ends with its process."""

    has_work = False

    def commit(self) -> None:
        return

    def work(self) -> None:
        return


class XenstoreServer:
    """Everything on the loop's thread. Errors of the keeper come out of the loop's turn: nothing is sent then."""

    def __init__(self, loop: Loop, store: Store | None = None, keeper: Keeper | None = None) -> None:
        self.store = store if store is not None else Store()
        self._loop = loop
        self._keeper = keeper if keeper is not None else NoKeeper()
        self._channels: set[Channel] = set()
        self._unsettled: list[Channel] = []
        self._due = False
        self._listener: Listener | None = None
        self._work: Timer | None = None

    @property
    def clients(self) -> int:
        """Connections of any kind."""
        return len(self._channels)

    # Clients of domain 0

    def listen(self, listener: socket.socket) -> None:
        """Serve who connects to a bound stream socket as domain 0, if it is of root or of our own user."""
        self._listener = Listener(
            listener, self._loop, lambda stream: self._open(Connection(0), stream), BACKLOG
        )
        self._listener.start()

    # Domains

    def introduce(self, domid: int, uuid: str, guest: socket.socket, process: socket.socket) -> None:
        """Serve ``guest`` as the domain itself and ``process`` as its process, which acts as domain 0 for it.

        For a domain that is known the sockets replace those that it had: its watches stay, and fire, because
        events may have been lost. Takes the sockets over; StoreError (and they are closed): EINVAL.
        """
        try:
            domain = self._introduced(domid, uuid)
        except StoreError:
            guest.close()
            process.close()
            raise
        for connection, stream in zip(domain.connections, (guest, process), strict=True):
            if connection.hang_up is not None:
                connection.hang_up()
            connection.connected = True
            self._open(connection, stream)
            self.store.fire_again(connection)
        self._soon()

    def _introduced(self, domid: int, uuid: str) -> Domain:
        if not is_real(domid):
            raise StoreError(Errno.EINVAL, f"{domid} is no number of a domain")
        if not is_component(uuid):
            raise StoreError(Errno.EINVAL, f"{uuid[:60]!r} is no UUID")
        for known in self.store.domains.values():
            if (known.domid == domid) != (known.uuid == uuid):
                raise StoreError(
                    Errno.EINVAL,
                    f"domain {known.domid} is introduced with UUID {known.uuid}: release it first",
                )
        return self.store.domains.get(domid) or self.store.introduce(domid, uuid)

    def release(self, domid: int) -> None:
        """A domain is gone, with its sockets, watches, trees and rights. One that is not known is fine."""
        if domid in self.store.domains:
            self.store.release(domid)
        self._soon()

    def close(self) -> None:
        """Keep what has changed, send what can be sent, and serve nobody any more."""
        if self._work is not None:
            self._work.cancel()
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        self.settle()
        for channel in list(self._channels):
            channel.close()

    # Inside

    def _open(self, connection: Connection, stream: socket.socket) -> None:
        self._channels.add(
            Channel(self._loop, self.store, connection, stream, self._ask_to_settle, self._closed)
        )

    def _closed(self, channel: Channel) -> None:
        """A client's watches end with it; a domain's wait for its next sockets, its transactions do not."""
        self._channels.discard(channel)
        connection = channel.connection
        if connection.name:
            connection.connected = False
            self.store.drop_transactions(connection)
            connection.discard_queue()
        else:
            self.store.disconnect(connection)

    def _ask_to_settle(self, channel: Channel) -> None:
        channel.unsettled = True
        self._unsettled.append(channel)
        if not self._due:
            self._soon()

    def _soon(self) -> None:
        if not self._due:
            self._due = True
            self._loop.soon(self.settle)

    def settle(self) -> None:
        """The end of a turn."""
        self._due = False
        channels, self._unsettled = self._unsettled, []
        self._keeper.commit()
        for channel in channels:
            channel.unsettled = False
            channel.send()
        for channel in channels:
            if channel.busy and not channel.blocked:
                channel.serve()
        if self._work is None and self._keeper.has_work:
            self._work = self._loop.later(0, self._do_work)

    def _do_work(self) -> None:
        """A share of what can wait; the clients get WORK_REST times as long before the next one."""
        began = monotonic()
        self._keeper.work()
        self._work = None
        if self._keeper.has_work:
            self._work = self._loop.later(WORK_REST * (monotonic() - began), self._do_work)
