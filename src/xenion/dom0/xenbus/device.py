"""One device of a domain in the store: its two sets of nodes, and the states that front and back end go through.

    front end    Initialising ... Initialised or Connected ... Closing ... Closed
    back end     InitWait ....... Connected ................. Closing ... Closed, and InitWait again

as in Linux's and Xen's drivers (public/io/xenbus.h). The front end's nodes are the guest's to fill: one look at a time,
and what makes no sense in our own state is waited out.
"""

from collections.abc import Callable, Mapping

from xenion.abi.io.xenbus import XenbusState
from xenion.dom0.xenbus.backend import Backend, FrontendError
from xenion.dom0.xenstore.client import Answer, StoreClient
from xenion.dom0.xenstore.errors import StoreError
from xenion.dom0.xenstore.paths import domain_path
from xenion.dom0.xenstore.perms import READ, Perm

FRONT_DEPTH, FRONT_NODES = 2, 1024
COMPLAINTS = 20
"""A guest that has earned so many in one boot earns no further line of the log."""
READY = (XenbusState.Initialised, XenbusState.Connected)
GONE = (XenbusState.Closed, XenbusState.Unknown)


def backend_path(kind: str, domid: int, devid: int) -> str:
    return f"{domain_path(0)}/backend/{kind}/{domid}/{devid}"


def frontend_path(kind: str, domid: int, devid: int) -> str:
    return f"{domain_path(domid)}/device/{kind}/{devid}"


class Device:
    """From `start` to the end that `detach` or `stop` brings; all on Dom0's thread."""

    def __init__(self, store: StoreClient, domid: int, backend: Backend, log: Callable[[str], None]) -> None:
        self.backend = backend
        self._store = store
        self._domid = domid
        self._back = backend_path(backend.kind, domid, backend.devid)
        self._front = frontend_path(backend.kind, domid, backend.devid)
        self._log = log
        self.state = XenbusState.Initialising
        """The back end's."""
        self.front_state = XenbusState.Unknown
        self._token = ""
        self._looking = self._look_again = False
        self._holding = False
        """The back end is connected: from its `connect` until its `disconnect` is done."""
        self._leaving = False
        """It is being disconnected; what the front end does meanwhile is looked at afterwards."""
        self._over = self._forced = self._held = False
        self._failed = False
        """The last attempt to connect, and the node `error` says why."""
        self._complaints = 0
        self._detached: list[Callable[[], None]] = []
        self._stopped: Callable[[], None] = _nothing
        self._held_then: Callable[[], None] = _nothing
        self._unsaid: dict[str, str] = {}
        """What has changed while it is held."""
        self._again = False
        """It was connected when it was held, and is to be so before anything else."""
        backend.log_to(self._complain)
        backend.changed = self._changed

    def start(self) -> None:
        """Shows the device to the guest."""
        store, domid = self._store, self._domid
        store.remove(self._back)
        store.mkdir(self._back)
        store.set_perms(self._back, (Perm(0, 0), Perm(domid, READ)))
        nodes = {"frontend": self._front, "frontend-id": str(domid), "online": "1"}
        self._write(self._back, {**nodes, **self.backend.backend_nodes()})
        store.remove(self._front)
        store.mkdir(self._front)
        store.set_perms(self._front, (Perm(domid, 0), Perm(0, READ)))
        self._write(self._front, {"backend": self._back, "backend-id": "0", **self.backend.frontend_nodes()})
        self._enter(XenbusState.InitWait)
        store.write(f"{self._front}/state", str(int(XenbusState.Initialising)))
        self._token = store.watch(f"{self._front}/state", lambda _: self._look())

    def resume(self) -> None:
        """Of a guest that was saved: its nodes and the front end are as they were, and it is connected again."""
        self.state = XenbusState.InitWait
        self._token = self._store.watch(f"{self._front}/state", lambda _: self._look())

    def hold(self, then: Callable[[], None]) -> None:
        """`then` when nothing of the guest's is held and nothing is in flight; until `let_go` the store and the front
        end see nothing of it."""
        self._held = True
        self._held_then = then
        if self._holding and not self._leaving:
            self._leaving = True
            self.backend.disconnect(self._given_back)
        elif not self._holding:
            then()

    def let_go(self) -> None:
        """It is connected again as it was."""
        self._held = False
        if self._over:
            return
        if self._forced:
            if not self._leaving:
                self._begin_to_go()
            return
        self._write(self._back, self._unsaid)
        self._unsaid = {}
        if self.state == XenbusState.Connected:
            self.state, self._again = XenbusState.InitWait, True
        if self.detaching:
            self._store.write(f"{self._back}/online", "0")
        self._look()

    @property
    def detaching(self) -> bool:
        return bool(self._detached)

    def detach(self, then: Callable[[], None], *, force: bool) -> None:
        """`then` when nothing is left of it: once the guest has let go of it; with `force`, whether or not it does.

        A guest that stops has let go of it.
        """
        self._detached.append(then)
        self._forced = self._forced or force
        if not self._held:
            self._begin_to_go()

    def _begin_to_go(self) -> None:
        self._store.write(f"{self._back}/online", "0")
        if not self._holding:
            self._remove()
        elif self._forced:
            self._give_back()
        elif self.state == XenbusState.Connected:
            self._enter(XenbusState.Closing)

    def stop(self, then: Callable[[], None]) -> None:
        """The guest has stopped: gives its memory back, leaves the nodes for the next boot to replace."""
        self._stopped = then
        self._leave_store()
        if self._holding:
            self._give_back()
        else:
            self._end()

    # --- what the front end does

    def _look(self) -> None:
        if self._over:
            return
        if self._looking:
            self._look_again = True
            return
        self._looking, self._look_again = True, False
        self._store.read(f"{self._front}/state", self._seen)

    def _seen(self, answer: Answer) -> None:
        self._looking = False
        if self._over:
            return
        self.front_state = _state_of(answer)
        self._advance()
        if self._look_again and not self._looking:
            self._look()

    def _advance(self) -> None:
        front, state = self.front_state, self.state
        if self._leaving or self._held:
            return
        if self._again and front in READY:
            self._connect()
            return
        self._again = False
        if self._holding:
            gone = front in GONE or front == XenbusState.Closing
            if gone or (front == XenbusState.Initialising and state == XenbusState.Closing):
                self._give_back()
        elif front == XenbusState.Closing:
            if state in (XenbusState.InitWait, XenbusState.Connected):
                self._enter(XenbusState.Closing)
        elif self.detaching:
            self._remove()
        elif state == XenbusState.InitWait:
            self._advance_waiting(front)
        elif front == XenbusState.Initialising:
            self._wait_again()
        elif front in GONE and state != XenbusState.Closed:
            self._enter(XenbusState.Closed)

    def _advance_waiting(self, front: XenbusState) -> None:
        if front in READY:
            self._connect()
        elif front == XenbusState.Closed:
            self._enter(XenbusState.Closed)

    def _wait_again(self) -> None:
        """A front end that has closed the device opens it anew."""
        self._write(self._back, self.backend.backend_nodes())
        self._enter(XenbusState.InitWait)

    def _connect(self) -> None:
        self._looking = True
        self._store.read_all(self._front, FRONT_DEPTH, FRONT_NODES, self._connect_to)

    def _connect_to(self, front: Mapping[str, str]) -> None:
        self._looking = False
        if self._over or self._held:  # `let_go` looks again
            return
        self._again = False
        try:
            nodes = self.backend.connect(front)
        except FrontendError as error:
            self._complain(str(error))
            self._failed = True
            self._write(self._back, {"error": str(error)})
            self._enter(XenbusState.Closing)
        else:
            self._holding = True
            if self._failed:
                self._failed = False
                self._store.remove(f"{self._back}/error")
            self._write(self._back, {**nodes, "hotplug-status": "connected"})
            self._enter(XenbusState.Connected)
            if self.detaching:
                self._enter(XenbusState.Closing)
        self._look()

    # --- its end

    def _give_back(self) -> None:
        """Nothing of the guest's is held afterwards; what follows depends on what has happened until then."""
        if not self._leaving:
            self._leaving = True
            self.backend.disconnect(self._given_back)

    def _given_back(self) -> None:
        self._holding = self._leaving = False
        if self._over:
            self._end()
        elif self._held:
            then, self._held_then = self._held_then, _nothing
            then()
        elif self._forced:
            self._remove()
        else:
            self._advance()
            if self.state == XenbusState.Connected:  # it is not, whatever the front end says by now
                self._enter(XenbusState.Closing)

    def _remove(self) -> None:
        self._leave_store()
        self._end()

    def _leave_store(self) -> None:
        """Nothing is written any more; what is to be gone, goes."""
        self._over = True
        if self._token:
            self._store.unwatch(f"{self._front}/state", self._token)
        if self.detaching:
            self._store.remove(self._front)
            self._store.remove(self._back)

    def _end(self) -> None:
        waiting, self._detached = self._detached, []
        for then in waiting:
            then()
        stopped, self._stopped = self._stopped, _nothing
        stopped()

    # --- the store

    def _write(self, base: str, nodes: Mapping[str, str]) -> None:
        for name, value in nodes.items():
            self._store.write(f"{base}/{name}", value)

    def _enter(self, state: XenbusState) -> None:
        self.state = state
        self._store.write(f"{self._back}/state", str(int(state)))

    def _changed(self, nodes: Mapping[str, str]) -> None:
        """A front end reads them again when the state is written, be it the same one."""
        if self._held:
            self._unsaid |= nodes
        elif not self._over:
            self._write(self._back, nodes)
            self._enter(self.state)

    def _complain(self, text: str) -> None:
        self._complaints += 1
        if self._complaints <= COMPLAINTS:
            last = "; nothing more is written about it" if self._complaints == COMPLAINTS else ""
            self._log(f"{self.backend.kind} {self.backend.devid}: {text}{last}")


def _nothing() -> None:
    return


def _state_of(answer: Answer) -> XenbusState:
    """Unknown for a node that is missing or says nothing that there is."""
    text = "" if isinstance(answer, StoreError) else answer.decode("latin-1")
    try:
        return XenbusState(int(text)) if text.isdecimal() and len(text) < 3 else XenbusState.Unknown
    except ValueError:
        return XenbusState.Unknown
