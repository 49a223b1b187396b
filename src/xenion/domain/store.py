"""The domain's place in xenstored: one connection as the guest, pumped from its ring, and one as its back ends.

Both come from xend, and come again when xenstored has died. Through the second one the process keeps the domain's own
trees: its home, its VM's path and its back ends' paths; the store lets it touch nothing else.
"""

import socket
import threading
from collections.abc import Callable, Sequence
from uuid import UUID

from xenion.dom0.loop import Loop
from xenion.dom0.ring import Fence, Notifier, SharedPage
from xenion.dom0.xenstore.client import Answer, StoreClient
from xenion.dom0.xenstore.domain_tree import DomainNodes, populate, vm_path
from xenion.dom0.xenstore.errors import StoreError
from xenion.dom0.xenstore.paths import domain_path
from xenion.dom0.xenstore.pump import PumpState, StorePump
from xenion.dom0.xenstore.renumber import Renumbering, renumbered
from xenion.dom0.xenstore.trees import KeptNode, TreesError, read_trees, write_trees

LOOK_SECONDS = 0.5


class DomainStore:
    """Everything but `prepare` is for Dom0's thread."""

    def __init__(self, loop: Loop, domid: int, uuid: UUID, log: Callable[[str], None]) -> None:
        self._loop = loop
        self._domid = domid
        self._home = domain_path(domid)
        self._vm = vm_path(str(uuid))
        back_ends = (f"{domain_path(0)}/backend/{kind}/{domid}" for kind in ("vbd", "vif"))
        self.roots = (self._home, self._vm, *back_ends)
        """What the store has of the domain."""
        self.client = StoreClient(loop)
        self.client.on_refused = log
        self.pump = StorePump(loop, log)

    def connect(self, guest: socket.socket, back_ends: socket.socket) -> None:
        """The connections to use from now on."""
        self.pump.connect(guest)
        self.client.connect(back_ends)

    def close(self) -> None:
        self.pump.close()
        self.client.close()

    # --- the guest's boot and end

    def prepare(self, nodes: DomainNodes, also: Callable[[], None]) -> None:
        """Another thread: returns when the store holds the tree of the domain that boots, and what `also` asks for."""

        def ask(done: Callable[[], None]) -> None:
            self.client.reset()
            populate(self.client, nodes)
            also()
            self.client.settle(done)

        self._ask(ask)

    def _ask(self, ask: Callable[[Callable[[], None]], None]) -> None:
        done = threading.Event()
        self._loop.call(lambda: ask(done.set))
        while not done.wait(LOOK_SECONDS):
            if not self._loop.running:
                return

    def restore(self, nodes: Sequence[KeptNode], *, known_as: int, was: int) -> None:
        """Another thread: returns when the store holds the trees of a domain that had the id `was` when it was saved.
        Its guest knows itself as `known_as`."""

        def ask(done: Callable[[], None]) -> None:
            self.client.reset()
            write_trees(self.client, self.roots, renumbered(nodes, known_as, was, self._domid))
            self.client.settle(done)

        self._ask(ask)

    def read(self, then: Callable[[list[KeptNode] | TreesError], None]) -> None:
        """The domain's trees, for one that is saved."""
        read_trees(self.client, self.roots, then)

    def serve(self, page: SharedPage, port: Notifier, fence: Fence) -> None:
        """The ring of a guest that boots."""
        self.pump.serve(page, port, fence)

    def go_on(self, talk: PumpState, known_as: int) -> None:
        """After `serve`, of a guest that was saved. WireError."""
        self.pump.restore(talk, Renumbering(known_as, self._domid) if known_as != self._domid else None)

    def stop(self) -> None:
        """The guest has stopped: its memory is not touched any more."""
        self.pump.stop()

    # --- the guest's home

    def read_node(self, path: str, then: Callable[[bytes], None]) -> None:
        """A node of the guest's home; `then` gets nothing when there is none."""

        def answered(answer: Answer) -> None:
            then(b"" if isinstance(answer, StoreError) else answer)

        self.client.read(f"{self._home}/{path}", answered)

    def write_node(self, path: str, value: str) -> None:
        """Sets a node of the guest's home; the guest's watches fire."""
        self.client.write(f"{self._home}/{path}", value)

    def rename(self, name: str) -> None:
        """The domain's name, as its store tells it."""
        self.client.write(f"{self._vm}/name", name)
        self.write_node("name", name)
