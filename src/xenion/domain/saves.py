"""Saving a domain into a file that xend has opened, or to another host: the guest is held while what is written last is
written, and goes on if it comes to nothing.

A guest that knows how may be asked to suspend itself first, so that it sets its clocks when it goes on; another one, or
one that does not do so in time, is saved as it stands. Either way all of it is in the file.

When the file is whole the guest stays held until xend has given it its name, and then it ends. An xend that is lost
before that has no file that it knows of, so the guest goes on. Not so once its disks have been released for another
host to use: then it is held until an xend, this one or the next, says which of the two goes on.

A guest that is to be kept is held for what is written last only: most of its memory is written while it runs, and it
goes on before the file is on the disk. If it writes to disks, what is on them is fixed meanwhile: xend, which is told
that they are at rest, puts something new above each.
"""

import os
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from xenion.dom0.loop import Loop, Timer
from xenion.dom0.xenstore.trees import KeptNode, TreesError
from xenion.domain.control import Refusal, Request
from xenion.domain.devices import Devices
from xenion.domain.machine import SAVES, Machine
from xenion.domain.saved.format import SaveError
from xenion.domain.saved.rounds import Rounds
from xenion.domain.saved.state import Head, MachineState
from xenion.domain.saved.write import Echo, Outgoing
from xenion.vmm.saved import UnsavableError
from xenion.vmm.written import WriteWatch

LOOK_SECONDS = 0.5
SUSPENDING_SECONDS, PARKING_SECONDS, QUIET_SECONDS = 10.0, 10.0, 60.0
CANCELLED = "the save was cancelled"
AS_IT_STANDS = (
    f"the guest has not suspended itself in {SUSPENDING_SECONDS:g} seconds: it is saved as it stands, and its clocks "
    "will be late by the time that it is away"
)


@dataclass(slots=True)
class Moving:
    """To another host, with a `watch` most of the memory while the guest runs. `worst_s`: see Rounds."""

    watch: WriteWatch | None
    worst_s: float | None = None


@dataclass(slots=True)
class _Save:
    """`stage`: copying (while the guest runs), asking (it to suspend itself), parking, quiet (devices and store are
    coming to rest), writing, switching (xend is not done with its disks), kept (it goes on, and the file comes to the
    disk), whole, released (its disks are for another host)."""

    request: Request
    machine: Machine
    head: Head
    fd: int
    ask: bool
    moving: Moving | None
    keep: bool
    switch: bool
    """It is kept once its disks have been switched."""
    stage: str = "asking"
    remarks: list[str] = field(default_factory=list)
    patience: Timer | None = None
    thread: threading.Thread | None = None
    outgoing: Outgoing | None = None
    echo: Echo = field(default_factory=Echo)
    held_at: float = 0.0
    held_s: float = 0.0
    """How long it stood still."""

    @property
    def out(self) -> str:
        """What the domain cannot be, in a sentence."""
        return "moved" if self.moving else "saved"

    @property
    def stopped(self) -> str:
        return f"the domain cannot be {self.out}: its guest has stopped"


class Saves:
    """One at a time. All but `settle` is for Dom0's thread."""

    def __init__(self, loop: Loop, devices: Devices) -> None:
        self._loop = loop
        self._devices = devices
        self._save: _Save | None = None
        self._cancelled = False
        self._last: threading.Thread | None = None
        """The newest one that was started."""

    @property
    def released(self) -> bool:
        """Its disks are for another host, where it may run."""
        return self._save is not None and self._save.stage == "released"

    @property
    def busy(self) -> bool:
        """What the guest has is to stay as it is."""
        return self._save is not None

    def begin(
        self,
        request: Request,
        machine: Machine,
        head: Head,
        *,
        ask: bool,
        moving: Moving | None = None,
        keep: WriteWatch | None = None,
        switch: bool = False,
    ) -> None:
        """Answers the request when the file is whole; `finish` is to follow, unless the guest is to be kept, and then
        with `switch` not before that. `ask` it to suspend itself first. Refusal."""
        if self._save is not None:
            raise Refusal("this domain is being saved or moved already: wait for it or cancel it")
        (fd,) = request.take_fds()
        self._cancelled = False
        save = self._save = _Save(
            request, machine, head, fd, ask, moving, keep is not None, switch and keep is not None
        )
        watch = moving.watch if moving is not None else keep
        if watch is not None:
            save.stage = "copying"
            rounds = Rounds(moving.worst_s if moving is not None else None)
            self._in_thread(save, partial(self._copy, save, watch, rounds), self._hold)
        else:
            self._hold(save)

    def _copy(self, save: _Save, watch: WriteWatch, rounds: Rounds, outgoing: Outgoing) -> None:
        """In a thread of its own."""
        echo = save.echo if save.moving else None
        outgoing.copy(
            watch, rounds, echo, lambda: self._loop.call(partial(save.request.tell, rounds.figures()))
        )

    def _hold(self, save: _Save) -> None:
        save.stage = "asking"
        if save.ask and not save.machine.held:
            save.patience = self._loop.later(SUSPENDING_SECONDS, lambda: self._not_heard(save))
            save.machine.store.read_node(
                "control/feature-suspend", lambda value: self._ask(save, value == b"1")
            )
        else:
            self._park(save)

    def _ask(self, save: _Save, can: bool) -> None:
        if self._save is not save or save.stage != "asking":
            return
        if can:
            save.machine.domain.may_suspend = True
            save.machine.store.write_node("control/shutdown", "suspend")
        else:
            self._park(save)

    def _not_heard(self, save: _Save) -> None:
        if self._save is save and save.stage == "asking":
            save.remarks.append(AS_IT_STANDS)
            save.machine.store.write_node("control/shutdown", "")
            self._park(save)

    def _park(self, save: _Save) -> None:
        save.stage = "parking"
        self._be_patient(save, PARKING_SECONDS, "the guest could not be stopped")
        save.held_at = time.monotonic()
        if save.moving:
            save.request.tell({"held": 1})
        save.machine.hold(SAVES)
        self.look()

    def echo(self, number: int) -> None:
        """The other host has got that round."""
        if self._save is not None:
            self._save.echo.say(number)

    def cancel(self) -> None:
        """The one under way, if any, comes to nothing soon, and its guest goes on."""
        self._cancelled = True
        save = self._save
        if save is not None and save.stage == "whole":
            self._let_go(save)
        elif save is not None and save.stage in ("asking", "switching"):
            self._fail(save, CANCELLED)

    def switch(self) -> bool:
        """The disks of a guest that is to be kept go on elsewhere. Whether it still waited for that. DeviceError."""
        save = self._save
        if save is None or not save.switch or save.stage not in ("writing", "switching"):
            return False
        self._devices.switch()
        save.switch = False
        if save.stage == "switching":
            self._keep(save)
        return True

    def release(self) -> None:
        """From now on another host may use its disks, and the guest is held until `finish`, whatever becomes of xend.
        Again is fine. Refusal, DeviceError."""
        save = self._save
        if save is None or save.stage not in ("whole", "released"):
            raise Refusal("the domain has gone on")
        self._devices.unlock()
        save.stage = "released"

    def finish(self, *, keep: bool) -> bool:
        """The file has its name: a guest that is to be kept goes on, another one never does again, whatever becomes of
        xend. Whether there was such a save. DeviceError: it stays held, another one uses its disks."""
        save = self._save
        if save is None or save.stage not in ("whole", "released"):
            return False
        if keep:
            if save.stage == "released":
                self._devices.lock()
            self._let_go(save)
        else:
            self._drop(save)
        return True

    def look(self) -> None:
        """The guest may have come to hold still."""
        save = self._save
        if save is not None and save.stage == "asking" and save.machine.domain.suspended:
            save.machine.domain.suspended = False
            self._park(save)
            return
        if save is None or save.stage not in ("asking", "parking"):
            return
        if save.machine.domain.stopping:
            self._fail(save, save.stopped)
            return
        if save.stage == "asking" or not save.machine.domain.parked:
            return
        save.stage = "quiet"
        self._be_patient(
            save, QUIET_SECONDS, "its devices do not come to rest: a disk's server does not answer"
        )
        self._devices.hold(lambda why_not: self._devices_rest(save, why_not))

    def _devices_rest(self, save: _Save, why_not: str) -> None:
        if self._save is not save:
            return
        if why_not:
            self._fail(save, f"the domain cannot be {save.out}: {why_not}")
            return
        store = save.machine.store
        store.pump.hold(lambda: store.read(lambda nodes: self._quiet(save, nodes)))

    # --- what may go wrong

    def _be_patient(self, save: _Save, seconds: float, otherwise: str) -> None:
        if save.patience is not None:
            save.patience.cancel()
        save.patience = self._loop.later(seconds, lambda: self._give_up(save, otherwise))

    def _give_up(self, save: _Save, why: str) -> None:
        if self._save is save and save.thread is None:
            self._fail(save, f"the domain cannot be {save.out}: {why}")

    def _fail(self, save: _Save, why: str) -> None:
        self._close(save)
        self._let_go(save)
        save.request.refuse(why)

    def _drop(self, save: _Save) -> None:
        self._save = None
        if save.patience is not None:
            save.patience.cancel()
        if save.thread is None:
            _end(save)

    def _let_go(self, save: _Save) -> None:
        """The guest goes on as if nothing had been."""
        self._drop(save)
        if save.stage != "kept":
            self._run_on(save)

    def _run_on(self, save: _Save) -> None:
        if save.stage not in ("copying", "asking", "parking"):
            save.machine.store.pump.go_on()
            self._devices.let_go()
        save.machine.let_go(SAVES)
        save.held_s = time.monotonic() - save.held_at

    # --- the file

    def _quiet(self, save: _Save, nodes: list[KeptNode] | TreesError) -> None:
        """Nothing but us touches the guest's memory now."""
        if self._save is not save:
            return
        if save.patience is not None:
            save.patience.cancel()
        try:
            if isinstance(nodes, TreesError):
                raise UnsavableError(str(nodes))
            state = save.machine.state(nodes)
        except UnsavableError as error:
            self._fail(save, f"the domain cannot be {save.out}: {error}")
            return
        save.stage = "writing"
        if save.switch:
            save.request.tell({"rest": 1})
        if save.keep:
            self._in_thread(save, lambda outgoing: outgoing.finish(state), self._keep)
        else:
            self._in_thread(save, partial(_write, state), self._written)

    def _keep(self, save: _Save) -> None:
        """All is in the file, if it comes to the disk: its guest goes on meanwhile."""
        if save.switch:
            save.stage = "switching"
            self._await_switch(save)
            return
        self._run_on(save)
        save.stage = "kept"
        self._in_thread(save, _to_disk, self._kept)  # the watch takes its time to end

    def _await_switch(self, save: _Save) -> None:
        """Until xend has done that, or is lost."""
        if self._save is not save or save.stage != "switching":
            return
        if save.request.abandoned:
            self._fail(save, CANCELLED)
        else:
            save.patience = self._loop.later(LOOK_SECONDS, lambda: self._await_switch(save))

    def _kept(self, save: _Save) -> None:
        self._close(save)
        self._drop(save)
        save.request.done(remarks=save.remarks, held_s=round(save.held_s, 6))

    def _in_thread(
        self, save: _Save, work: Callable[[Outgoing], None], then: Callable[[_Save], None]
    ) -> None:
        """`then` when it has gone well; otherwise the guest goes on."""
        save.thread = threading.Thread(target=self._work, args=(save, work, then), name="save", daemon=True)
        try:
            save.thread.start()
            self._last = save.thread
        except RuntimeError:
            save.thread = None
            self._fail(save, f"the domain cannot be {save.out}: the host has no room for another thread")

    def _work(self, save: _Save, work: Callable[[Outgoing], None], then: Callable[[_Save], None]) -> None:
        """In a thread of its own."""
        said = ""
        try:
            if save.outgoing is None:
                progress = save.request.teller(self._loop, lambda: self._cancelled)
                save.outgoing = Outgoing(save.machine.domain, save.head, save.fd, progress)
            work(save.outgoing)
        except SaveError as error:
            said = str(error)
        except Exception:  # noqa: BLE001  a bug of ours: the guest goes on all the same
            traceback.print_exc()
            said = "the save failed for a reason that only process.log in the domain's folder of logs tells"
        self._loop.call(lambda: self._worked(save, said, then))

    def _worked(self, save: _Save, said: str, then: Callable[[_Save], None]) -> None:
        if self._save is not save:
            self._close(save)
            _end(save)
            save.request.refuse(save.stopped)
            return
        save.thread = None
        if said or self._cancelled or save.request.abandoned:
            self._fail(save, said or CANCELLED)
        else:
            then(save)

    def _close(self, save: _Save) -> None:
        if save.fd >= 0:
            os.close(save.fd)
            save.fd = -1

    def _written(self, save: _Save) -> None:
        self._close(save)
        save.stage = "whole"
        save.request.done(remarks=save.remarks)
        self._await_finish(save)

    def _await_finish(self, save: _Save) -> None:
        """Until xend has said how it ends, or is lost."""
        if self._save is not save or save.stage != "whole":
            return
        if save.request.abandoned:
            self._let_go(save)
        else:
            save.patience = self._loop.later(LOOK_SECONDS, lambda: self._await_finish(save))

    def settle(self) -> None:
        """The main thread, when none can begin any more: returns when none touches a machine any more."""
        self._cancelled = True
        save = self._save
        self._loop.call_and_wait(self._forget)
        if self._last is not None:
            self._last.join()
        if save is not None and save.thread is not None and not self._loop.call_and_wait(lambda: None):
            self._close(save)  # nobody was there to answer it

    def _forget(self) -> None:
        """The guest has stopped: there is nothing that could go on."""
        save = self._save
        if save is None:
            return
        self._drop(save)
        if save.stage in ("asking", "parking", "quiet", "switching"):
            os.close(save.fd)
            save.request.refuse(save.stopped)


def _to_disk(outgoing: Outgoing) -> None:
    outgoing.end()
    outgoing.sync()


def _write(state: MachineState, outgoing: Outgoing) -> None:
    outgoing.finish(state)
    outgoing.sync()


def _end(save: _Save) -> None:
    if save.outgoing is not None:
        save.outgoing.end()
