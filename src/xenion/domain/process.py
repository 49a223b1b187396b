"""The life of a domain in its process: boots, ends, what is done at an end, and what xend asks in between."""

import gc
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import NoReturn, TypeVar
from uuid import UUID

from xenion.builder import DomainBuildError, KernelImageError
from xenion.config.domain import Action, DomainConfig
from xenion.dom0.console import ConsoleHub
from xenion.dom0.loop import Loop
from xenion.dom0.seccomp import NotRestrictedError
from xenion.domain import sandbox
from xenion.domain.cap import Cap
from xenion.domain.console_log import ConsoleLog
from xenion.domain.console_server import ConsoleServer
from xenion.domain.control import ControlServer, Request
from xenion.domain.devices import DeviceError, DeviceOrder, Devices, Make
from xenion.domain.disks import DiskResource
from xenion.domain.dumpcore import DumpError, dump_core
from xenion.domain.dumps import Dumps
from xenion.domain.interfaces import InterfaceResource
from xenion.domain.journal import Journal
from xenion.domain.machine import Files, Identity, Machine, bootable, open_files
from xenion.domain.order import Order
from xenion.domain.report import write_report
from xenion.domain.requests import CAP, HOLDER, Requests
from xenion.domain.saved.format import SavedFileError
from xenion.domain.saved.read import SavedDomain
from xenion.domain.saves import Saves
from xenion.domain.spare import Spare, SpareInUseError
from xenion.domain.store import DomainStore
from xenion.processor import ProcessorError
from xenion.processor.choose import open_processor
from xenion.vmm.written import WriteWatch

RESTARTS = {Action.RESTART, Action.RENAME_RESTART, Action.COREDUMP_RESTART}
STAYS = {Action.PRESERVE, Action.RENAME_RESTART}
DUMPS = {Action.COREDUMP_DESTROY, Action.COREDUMP_RESTART}
TAIL_BYTES = 32768
SHORTEST_LIFE_SECONDS = 1.0
LAST_WORDS_SECONDS = 2.0
"""A console reader that takes nothing for so long does not keep the process from ending."""
GOODBYE_SECONDS, DESTROYED_SECONDS = 30.0, 1.0
"""Nor does one that never comes to an end, for longer than this."""
LOOK_SECONDS = 0.01

ABNORMAL = {"crash", "watchdog", "suspend"}
"""Ends that get a report; nothing can resume a suspended guest yet."""

EXIT_CRASHED, EXIT_REFUSED, EXIT_BUG = 1, 2, 70


T = TypeVar("T")


class RefusedError(Exception):
    """The domain cannot start; the message is for the user."""


@contextmanager
def refused(config: DomainConfig) -> Iterator[None]:
    """What keeps a domain from being built becomes a RefusedError."""
    try:
        yield
    except KernelImageError as error:
        raise RefusedError(f"{config.kernel}: {error}") from error
    except (DomainBuildError, ProcessorError) as error:
        raise RefusedError(str(error)) from error
    except SavedFileError as error:
        raise RefusedError(f"the saved domain cannot go on: {error}") from error
    except OSError as error:
        raise RefusedError(f"the domain cannot be built: {error.strerror}") from error
    except MemoryError as error:
        raise RefusedError("the domain cannot be built: the host is short of memory") from error
    except ImportError as error:  # nothing can be loaded once the process is armed
        raise RefusedError(
            f"{config.kernel}: a domain that runs cannot read a kernel that is compressed in another way than its own: "
            "start the domain anew with it"
        ) from error


class DomainProcess:
    """Everything that outlives one boot of the guest. `serve` is for the main thread, which becomes the vCPU's."""

    def __init__(self, order: Order) -> None:
        fds = order.fds
        self.config = order.config
        self._paused, self._arriving = order.paused, order.arriving
        self._called: list[Request] = []
        """Who has asked it to go on here."""
        self._may_go_on = threading.Event()
        self.identity = Identity(order.domid, UUID(order.uuid))
        self._files = open_files(fds.kernel, fds.ramdisk)
        self._saved = fds.saved
        """What goes on instead of the first boot; -1: nothing."""
        self._next_files: Files | None = None
        """What the next boot reads instead."""
        self.loop = Loop()
        self.journal = Journal(fds.journal)
        self.log = ConsoleLog(fds.log, lambda: self.journal.add("log-full"), self._note)
        self.hub = ConsoleHub(scrollback=self.config.console_scrollback_kib * 1024, log=self.log.write)
        self.console = ConsoleServer(
            self.hub, socket.socket(fileno=fds.console), self.loop, self._feed, self._moved
        )
        self.control = ControlServer(socket.socket(fileno=fds.control), self.loop, lambda: self.journal.n)
        self.journal.tell = self._tell
        self.report, self.core = Spare(fds.report), Spare(fds.core)
        self.dumps = Dumps(self.loop)
        self.cap = Cap(self.loop, self._hold_for_cap, self._let_go_of_cap)
        self.store = DomainStore(self.loop, order.domid, self.identity.uuid, self._note)
        self.store.connect(socket.socket(fileno=fds.store_guest), socket.socket(fileno=fds.store_back_ends))
        makers: dict[str, Make] = {"vbd": self._make_disk, "vif": self._make_interface}
        self.devices = Devices(
            self.loop, self.store.client, order.domid, makers, self._note, self._device_gone
        )
        self.saves = Saves(self.loop, self.devices)
        self.watch = WriteWatch.open()
        self._first_devices = order.devices
        self.machine: Machine | None = None
        self.running = False
        """The machine's guest has not stopped yet."""
        self._boot = 0
        self._guest_seconds = 0.0
        self._armed = False
        self._over = False
        """The journal's last entry is written."""
        self._requests = Requests(self)
        self.control.handlers.update(self._requests.handlers())

    def _tell(self, n: int) -> None:
        """Who asks for something has been told of what it does when it is answered."""
        tell = partial(self.control.tell, {"journal": n})
        if self.loop.here:
            tell()
        else:
            self.loop.call(tell)

    def _note(self, text: str) -> None:
        self.journal.add("note", text=text)

    def _device_gone(self, kind: str, devid: int) -> None:
        self.journal.add("detached", kind_of_device=kind, devid=devid)

    def _make_disk(self, order: DeviceOrder) -> DiskResource:
        return DiskResource(order, self.loop, self._loss_of(order))

    def _make_interface(self, order: DeviceOrder) -> InterfaceResource:
        return InterfaceResource(order, self.loop, self._loss_of(order))

    def _loss_of(self, order: DeviceOrder) -> Callable[[str], None]:
        """What is done when the host's side of a device goes away by itself."""

        def lost(why: str) -> None:
            self._note(f"{order.kind} {order.devid}: {why}")
            self.journal.add("lost", kind_of_device=order.kind, devid=order.devid)

        return lost

    # --- what the console and xend ask, on Dom0's thread

    def _feed(self, data: bytes) -> int:
        return self.machine.feed(data) if self.machine is not None and self.running else 0

    def _moved(self) -> None:
        if self.machine is not None and self.running:
            self.machine.serve_console()

    def _look(self) -> None:
        self.dumps.look()
        self.saves.look()
        self._requests.look()

    def arrive(self, request: Request) -> None:
        """What has come from another host goes on here, answered when it does; again is fine."""
        if self._arriving:
            self._called.append(request)
            self._may_go_on.set()
        else:
            request.done()

    def check(self, config: DomainConfig, files: Files, answer: Callable[[str], None]) -> None:
        """Whether it could be booted: reading a kernel takes a thread some time. `answer(why_not)` on Dom0's thread."""

        def read() -> None:
            why_not = ""
            try:
                with refused(config):
                    bootable(config, files)
            except RefusedError as error:
                why_not = str(error)
            except Exception:  # noqa: BLE001  a bug of ours must not keep who asks waiting
                sys.stderr.write(traceback.format_exc())
                why_not = f"{config.kernel}: it could not be read for a bug of Xenion's: see process.log"
            self.loop.call(lambda: answer(why_not))

        threading.Thread(target=read, name="check", daemon=True).start()

    def configure(self, config: DomainConfig, files: Files) -> None:
        """For the next boot."""
        if self._next_files is not None:
            self._next_files.close()
        self.config, self._next_files = config, files

    def destroy(self, reason: str = "destroyed") -> None:
        """The end, whatever the main thread does; readers of the console get what they read at once."""
        if not self._over:
            used = self.machine.domain.cpu_seconds if self.machine is not None and self.running else 0
            self._add_end(reason, Action.DESTROY, cpu_seconds=self._guest_seconds + used)
            self._write_last_entry()
            if self.machine is not None:
                self.machine.domain.stop()
        self._say_goodbye(time.monotonic() + DESTROYED_SECONDS, lambda: os._exit(0))

    def _add_end(
        self, reason: str, action: Action, *, cpu_seconds: float, report: bool = False, core: bool = False
    ) -> None:
        self.journal.add(
            "ended", reason=reason, action=action, report=report, core=core, cpu_seconds=cpu_seconds
        )

    def _write_last_entry(self) -> None:
        self.journal.add("leaving")
        self._over = True

    def _say_goodbye(self, deadline: float, then: Callable[[], None]) -> None:
        """Calls `then` when the guest's last words have reached those who read, one who has just connected, too."""

        def look() -> None:
            if (self.running or self.console.laggards(LAST_WORDS_SECONDS)) and time.monotonic() < deadline:
                self.loop.later(LOOK_SECONDS, look)
            else:
                then()

        self.loop.later(LOOK_SECONDS, look)

    def _on_dom0(self, action: Callable[[], T]) -> T:
        """For the main thread: what `action` returns. Once the domain was destroyed this is no way back any more."""
        results: list[T] = []

        def unless_over() -> None:
            if not self._over:
                results.append(action())

        if not self.loop.call_and_wait(unless_over):
            return action()  # nobody else is there who could do anything
        return results[0] if results else _wait_for_the_end()

    # --- booting

    def _next_boot(self) -> tuple[DomainConfig, Files]:
        if self._next_files is not None:
            self._files.close()
            self._files, self._next_files = self._next_files, None
        return self.config, self._files

    @contextmanager
    def _taken(self) -> Iterator[SavedDomain | None]:
        """What goes on instead of a boot, once. SavedFileError."""
        fd, self._saved = self._saved, -1
        try:
            yield SavedDomain(fd) if fd >= 0 else None
        finally:
            if fd >= 0:
                os.close(fd)

    def _build(self) -> Machine:
        """RefusedError."""
        config, files = self._on_dom0(self._next_boot)
        with refused(config), self._taken() as saved:
            processor = open_processor(saved.head.processor if saved else config.processor)
            machine = Machine(
                config,
                self.identity,
                files,
                processor,
                self.loop,
                self.hub,
                self.store,
                self.devices,
                saved,
                lambda: self._arm(processor.features.ioctls),
                self._echo if self._arriving else None,
            )
        machine.log_error = self._note
        machine.flush = self.console.flush
        machine.on_notified = self._look
        machine.on_stopped = self._stopped
        machine.on_resized = lambda: self._resized(machine)
        return machine

    def _echo(self, number: int) -> None:
        """For the other host."""
        self._on_dom0(lambda: self.journal.add("echo", number=number))

    def _arm(self, ioctls: Sequence[int]) -> None:
        """Once."""
        if self._armed:
            return
        sandbox.limit_resources()
        try:
            sandbox.arm([*ioctls, *self.watch.ioctls])
        except NotRestrictedError as error:
            self._note(str(error))
        self._armed = True

    def serve(self) -> int:
        """Boots the guest until it ends for good; the exit status."""
        self.loop.start(self._on_loop_failure)
        self._on_dom0(self._open)
        while True:
            try:
                self._open_devices()
                machine = self._build()
            except RefusedError as error:
                return self._refused(str(error))
            action, reason = self._live(machine)
            if action in STAYS:
                self._preserve(action, reason)
            self._close(machine)
            del machine
            gc.collect()  # the old machine's memory goes before a new one comes
            if action not in RESTARTS:
                return self._leave(EXIT_CRASHED if reason in ABNORMAL else 0)

    def _open(self) -> None:
        self.control.start()
        self.console.start()

    def _open_devices(self) -> None:
        """Before the first boot. RefusedError."""
        orders, self._first_devices = self._first_devices, ()

        def add() -> str:
            try:
                for order in orders:
                    self.devices.add(order)
            except DeviceError as error:
                return str(error)
            return ""

        if why := self._on_dom0(add):
            raise RefusedError(why)

    def _live(self, machine: Machine) -> tuple[Action, str]:
        """One boot, from its first instruction to what follows its end: the action and the reason."""
        machine.start()
        self._arm(machine.domain.processor.features.ioctls)
        if self._arriving:
            self._on_dom0(lambda: self.journal.add("loaded"))
            self._may_go_on.wait()
        if machine.restored:
            self._on_dom0(machine.go_on)
        cpu_base = time.thread_time() - self._guest_seconds
        self._on_dom0(lambda: self._begin(machine, cpu_base))
        started = time.monotonic()
        reason = machine.run()
        seconds = time.monotonic() - started
        self._guest_seconds += machine.domain.cpu_seconds
        if self._over:
            _wait_for_the_end()
        return self._ended(machine, reason, seconds), reason

    def _begin(self, machine: Machine, cpu_base: float) -> None:
        """From here on Dom0's thread has the machine, and what it asks of it comes behind this in the journal."""
        if self._paused:
            machine.hold(HOLDER)
        self.store.rename(self.config.name)  # it may have got another name while it was built
        self.machine, self.running = machine, True
        self._boot += 1
        self.journal.add("running", boot=self._boot, cpu_base=cpu_base, paused=self._paused)
        self._paused = self._arriving = False
        if machine.restored:
            self._resized(machine)
        while self._called:
            self._called.pop().done()

    def _hold_for_cap(self) -> None:
        if self.machine is not None and self.running:
            self.machine.hold(CAP)

    def _let_go_of_cap(self) -> None:
        if self.machine is not None and self.running:
            self.machine.let_go(CAP)

    def _resized(self, machine: Machine) -> None:
        sizes = machine.sizes
        self.journal.add(
            "resized", vcpus=sizes.vcpus, memory_mib=max(sizes.memory_mib, 1), maxmem_mib=sizes.maxmem_mib
        )

    def _stopped(self) -> None:
        self.running = False
        self._look()

    def _preserve(self, action: Action, reason: str) -> NoReturn:
        """Its memory stays, its devices are free for others."""

        def note() -> None:
            self.devices.close()
            self.journal.add("preserved", reason=reason, action=action)

        self._on_dom0(note)
        _wait_for_the_end()

    def _close(self, machine: Machine) -> None:
        self._on_dom0(self._forget)
        self.dumps.settle()
        self.saves.settle()
        machine.close()

    def _forget(self) -> None:
        self.machine = None

    # --- ends

    def _ended(self, machine: Machine, reason: str, seconds: float) -> Action:
        action = self._action(reason)
        report = reason in ABNORMAL and self._write_report(machine)
        if action in RESTARTS and seconds < SHORTEST_LIFE_SECONDS:
            self._note("the guest ended within a second of its start and is not restarted")
            action = Action.COREDUMP_DESTROY if action in DUMPS else Action.DESTROY
        if not self.loop.running or self._on_dom0(lambda: self.saves.released):
            action = Action.DESTROY
        core = action in DUMPS and self._dump(machine)
        used = self._guest_seconds
        self._on_dom0(lambda: self._add_end(reason, action, report=report, core=core, cpu_seconds=used))
        return action

    def _action(self, reason: str) -> Action:
        config = self.config
        actions = {"poweroff": config.on_poweroff, "reboot": config.on_reboot, "watchdog": config.on_watchdog}
        return actions.get(reason, config.on_crash)

    def _write_report(self, machine: Machine) -> bool:
        """Whether the spare file holds it now."""
        text = write_report(machine.domain, machine.boot_state, self.config.name, self.hub.tail(TAIL_BYTES))
        try:
            with self.report.use() as fd:
                write_all(fd, text.encode(errors="replace"))
        except SpareInUseError as error:
            self._note(f"no crash report was written: {error}")
            return False
        except OSError as error:
            self._note(f"no crash report was written: {error.strerror}")
            return False
        return True

    def _dump(self, machine: Machine) -> bool:
        """As `_write_report`, a core."""
        try:
            with self.core.use() as fd:
                dump_core(machine.domain, fd, lambda done, total: not self._over)
        except (SpareInUseError, DumpError) as error:
            self._note(f"no core was dumped: {error}")
            return False
        return True

    def _refused(self, why: str) -> int:
        """Before the first boot nobody has seen the domain; later it is an end like others."""
        if not self._boot:
            self._on_dom0(lambda: self.journal.add("refused", text=why))
            return self._leave(EXIT_REFUSED)
        self._note(f"the domain could not be booted again: {why}")
        used = self._guest_seconds
        self._on_dom0(lambda: self._add_end("crash", Action.DESTROY, cpu_seconds=used))
        return self._leave(EXIT_CRASHED)

    def _leave(self, status: int) -> int:
        heard = threading.Event()

        def leave() -> None:
            self._write_last_entry()
            self._say_goodbye(time.monotonic() + GOODBYE_SECONDS, heard.set)

        self._on_dom0(leave)
        while self.loop.running and not heard.wait(1.0):
            continue
        return status

    def _on_loop_failure(self) -> None:
        """A bug of ours on Dom0's thread ends the domain: one whose back ends are dead is no use to anybody."""
        said = traceback.format_exc()
        sys.stderr.write(said)
        if self.machine is not None and self.running and not self._over:
            self.machine.domain.fail(said)
        else:
            os._exit(EXIT_BUG)


def write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def _wait_for_the_end() -> NoReturn:
    """Dom0's thread goes on, and ends the process when it is time."""
    while True:
        threading.Event().wait()
