"""A store that a domain is connected to through sockets which the test cuts, as xenstored's end and return would."""

import socket
from collections.abc import Callable
from contextlib import suppress

from xenion.dom0.loop import Loop
from xenion.dom0.xenstore.client import Answer, StoreClient
from xenion.dom0.xenstore.connection import Connection
from xenion.dom0.xenstore.errors import StoreError
from xenion.dom0.xenstore.server import XenstoreServer
from xenion.dom0.xenstore.store import Store

DOMID = 5
UUID = "00000000-1111-2222-3333-444444444444"
MOST = 1 << 16


class Cable:
    """Two ends of one connection with the test between them: what it does not move is lost when it breaks."""

    def __init__(self) -> None:
        self.ours, near = socket.socketpair()
        self.theirs, far = socket.socketpair()
        self._up, self._down = Wire(near, far), Wire(far, near)

    def move(self, up: int = MOST, down: int = MOST) -> int:
        """At most so many bytes to the store and from it; how many there were."""
        return self._up.move(up) + self._down.move(down)

    def cut(self) -> None:
        self._up.source.close()
        self._down.source.close()


class Wire:
    """One direction; what the target has no room for stays."""

    def __init__(self, source: socket.socket, target: socket.socket) -> None:
        self.source = source
        self._target = target
        self._rest = b""
        source.setblocking(False)

    def move(self, most: int) -> int:
        with suppress(BlockingIOError, ConnectionError):
            if not self._rest and most:
                self._rest = self.source.recv(most)
            sent = self._target.send(self._rest) if self._rest else 0
            self._rest = self._rest[sent:]
            return sent
        return 0


class ReplaceableStore:
    """`connect` is called with new connections; the store and its watches stay, as after a restart."""

    def __init__(self, loop: Loop, connect: Callable[[socket.socket, socket.socket], None]) -> None:
        self.loop = loop
        self.store = Store()
        self.server = XenstoreServer(loop, self.store)
        self.dom0 = Connection(0)
        self._connect = connect
        self._cables: list[Cable] = []

    def connect(self) -> None:
        self.cut()
        self._cables = guest, back_ends = [Cable(), Cable()]
        self.server.introduce(DOMID, UUID, guest.theirs, back_ends.theirs)
        self._connect(guest.ours, back_ends.ours)

    def cut(self) -> None:
        """The store is away; what was under way is lost."""
        for cable in self._cables:
            cable.cut()
        self._cables = []
        self.turn()

    def move(self, up: int = MOST, down: int = MOST) -> int:
        moved = sum(cable.move(up, down) for cable in self._cables)
        self.turn()
        return moved

    def turn(self) -> None:
        for _ in range(3):
            self.loop.turn(0)

    def settle(self) -> None:
        """Until nobody has anything to say."""
        quiet = 0
        while quiet < 3:
            quiet = 0 if self.move() else quiet + 1

    def value(self, path: str) -> bytes | None:
        node = self.store.tree.get(path)
        return None if node is None else node.value

    def close(self) -> None:
        for cable in self._cables:
            cable.cut()
        self.server.close()


class Client:
    """A domain's process, as far as the store is concerned; nobody speaks for its guest."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.client = StoreClient(self.loop)
        self.store = ReplaceableStore(self.loop, self.connected)
        self.answers: list[object] = []
        self.guest: socket.socket | None = None

    def connected(self, guest: socket.socket, back_ends: socket.socket) -> None:
        if self.guest is not None:
            self.guest.close()
        self.guest = guest
        self.client.connect(back_ends)

    def answer(self, answer: Answer) -> None:
        self.answers.append(answer.errno if isinstance(answer, StoreError) else answer)

    def note(self, name: str) -> Callable[[Answer], None]:
        return lambda _: self.answers.append(name)

    def said(self) -> list[object]:
        self.store.settle()
        said, self.answers = self.answers, []
        return said

    def close(self) -> None:
        self.client.close()
        self.store.close()
        if self.guest is not None:
            self.guest.close()
        self.loop.close()
