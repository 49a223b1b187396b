"""A whole machine for one boot of a guest: the domain, and its Dom0 back ends on Dom0's thread."""

import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO
from uuid import UUID

from xenion.abi.grant_table import GNTTAB_RESERVED_CONSOLE, GNTTAB_RESERVED_XENSTORE
from xenion.abi.sched import (
    SHUTDOWN_crash,
    SHUTDOWN_poweroff,
    SHUTDOWN_reboot,
    SHUTDOWN_suspend,
    SHUTDOWN_watchdog,
)
from xenion.builder import (
    BootState,
    DomainBuildError,
    KernelImage,
    build,
    check_memory,
    load_kernel,
    load_readers,
)
from xenion.config.domain import DomainConfig
from xenion.core import lib
from xenion.dom0.console import ConsoleBackend, ConsoleHub
from xenion.dom0.domain_guest import DomainGuest
from xenion.dom0.loop import READ, Loop, Timer
from xenion.dom0.ring import RingError
from xenion.dom0.xenstore.domain_tree import DomainNodes
from xenion.dom0.xenstore.trees import KeptNode
from xenion.domain.devices import Devices
from xenion.domain.saved.format import SavedFileError
from xenion.domain.saved.read import SavedDomain
from xenion.domain.saved.state import MachineState
from xenion.domain.sizes import Sizes
from xenion.domain.store import DomainStore
from xenion.processor import Processor, ProcessorError
from xenion.vmm.domain import Domain
from xenion.vmm.errors import GuestError
from xenion.vmm.events import EventChannels
from xenion.vmm.saved import capture

PAGES_PER_MIB = 256
REASONS = {
    SHUTDOWN_poweroff: "poweroff",
    SHUTDOWN_reboot: "reboot",
    SHUTDOWN_suspend: "suspend",
    SHUTDOWN_crash: "crash",
    SHUTDOWN_watchdog: "watchdog",
}
LONGEST_WAIT_SECONDS, WATCHDOG_AGAIN_SECONDS = 3600.0, 0.5
SAVES = "save"
"""Who holds a guest that is saved or moved: nothing is to happen to it meanwhile."""
EMERGENCY_BYTES, EMERGENCY_LOOK_SECONDS = 1 << 16, 0.1
PULLS = 32
"""Rings full of output that are moved before others on Dom0's thread have their turn."""


class Page:
    """A guest's page, as a back end sees it."""

    def __init__(self, view: memoryview) -> None:
        self._view = view

    def view(self) -> memoryview:
        return self._view


class GuestPort:
    """The guest's end of an event channel, as a back end notifies it."""

    def __init__(self, events: EventChannels) -> None:
        self._events = events
        self.number = 0

    def notify(self) -> None:
        self._events.notify(self.number)


@dataclass(frozen=True, slots=True)
class Files:
    """What the domain starts from, open: a domain process opens nothing once armed, and a reboot reads it again."""

    kernel: BinaryIO
    ramdisk: BinaryIO | None = None

    def read_kernel(self) -> KernelImage:
        """KernelImageError, OSError."""
        self.kernel.seek(0)
        return load_kernel(self.kernel.read())

    def read_ramdisk(self) -> bytes | None:
        if self.ramdisk is None:
            return None
        self.ramdisk.seek(0)
        return self.ramdisk.read()

    def close(self) -> None:
        self.kernel.close()
        if self.ramdisk is not None:
            self.ramdisk.close()


def open_files(kernel: int, ramdisk: int) -> Files:
    """Around descriptors that are ours from now on; -1: none."""
    return Files(os.fdopen(kernel, "rb"), os.fdopen(ramdisk, "rb") if ramdisk >= 0 else None)


def bootable(config: DomainConfig, files: Files) -> tuple[KernelImage, bytes | None]:
    """What would be booted, if it can be: KernelImageError, DomainBuildError, OSError."""
    image, ramdisk = files.read_kernel(), files.read_ramdisk()
    check_memory(image, ramdisk, config.memory_mib * PAGES_PER_MIB)
    return image, ramdisk


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the domain is; `name` is the configuration's."""

    domid: int
    uuid: UUID


class Machine:
    """Built and ready in the constructor; `start`, then `run` until the guest stops, then `close`.

    Everything but `run` and `close` is for Dom0's thread, the loop's. KernelImageError, DomainBuildError,
    ProcessorError, OSError.
    """

    def __init__(
        self,
        config: DomainConfig,
        identity: Identity,
        files: Files,
        processor: Processor,
        loop: Loop,
        hub: ConsoleHub,
        store: DomainStore,
        devices: Devices,
        saved: SavedDomain | None = None,
        before_memory: Callable[[], None] = lambda: None,
        echo: Callable[[int], None] | None = None,
    ) -> None:
        """`before_memory` is called before anything of what is `saved` is believed, but its head; `echo`: see
        SavedDomain."""
        self._loop = loop
        self._hub = hub
        self.store = store
        self._devices = devices
        self._identity = identity
        self._notify_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._emergency = bytearray()
        self._emergency_taken = threading.Event()
        self.config = config
        self._saved = saved
        self.restored = saved is not None
        """It goes on where it was saved."""
        self.domain = Domain(
            processor,
            domid=saved.head.known_as if saved else identity.domid,
            nr_pages=0 if saved else config.memory_mib * PAGES_PER_MIB,
            most_pages=config.most_memory_mib * PAGES_PER_MIB,
            handle=identity.uuid.bytes,
            notify_fd=self._notify_fd,
            console_output=self._write_emergency,
            nr_vcpus=config.most_vcpus,
        )
        self._console_port, self._store_port = GuestPort(self.domain.events), GuestPort(self.domain.events)
        try:
            self.boot_state = (
                self._restore(saved, before_memory, echo)
                if saved
                else self._build(config, *bootable(config, files))
            )
        except BaseException:
            self.close()
            raise
        self._backend = ConsoleBackend(
            self._page(self.boot_state.console_pfn), self._console_port, lib.core_fence
        )
        self._store_page = self._page(self.boot_state.xenstore_pfn)
        self._nodes = self._nodes_of(config)
        self.on_resized: Callable[[], None] = lambda: None
        """Called when what it has of memory and virtual CPUs has changed."""
        self.sizes = Sizes(config, self.domain, loop, store, lambda: self.on_resized())
        if saved:
            self.sizes.restore(saved.state.target_mib, saved.state.maxmem_mib, saved.state.vcpus)
        self.log_error: Callable[[str], None] = lambda text: None
        self.on_notified: Callable[[], None] = lambda: None
        """Called when the guest may have come to hold still."""
        self.on_stopped: Callable[[], None] = lambda: None
        """Called when it has stopped and its last words are out."""
        self.flush: Callable[[], None] = lambda: None
        """Called when there may be output for the console's readers."""
        self._holders: set[str] = set()
        self._still_since = 0
        """ns of system time when it was held to be saved."""
        self._watchdog: Timer | None = None
        self._deadline = 0
        """ns of system time for which `_watchdog` is set."""

    # --- construction

    def _restore(
        self, saved: SavedDomain, before_memory: Callable[[], None], echo: Callable[[int], None] | None
    ) -> BootState:
        """SavedFileError."""
        load_readers()  # it may boot when it is armed
        before_memory()
        saved.fill(self.domain, echo)
        state, events = saved.state, self.domain.events
        self.domain.may_suspend = True  # it may have been asked before it was saved
        self._store_port.number, self._console_port.number = state.store_port, state.console_port
        try:
            events.rebind_dom0(state.store_port, self.store.pump.on_event)
            events.rebind_dom0(state.console_port, self.serve_console)
        except GuestError as error:
            raise SavedFileError(
                "its state makes no sense: the console's and the store's channels"
            ) from error
        return BootState.of_rings(state.console_pfn, state.store_pfn)

    def _build(self, config: DomainConfig, image: KernelImage, ramdisk: bytes | None) -> BootState:
        self._store_port.number = self.domain.events.bind_dom0(self.store.pump.on_event)
        self._console_port.number = self.domain.events.bind_dom0(self.serve_console)
        state = build(
            image,
            self.domain.space,
            ramdisk=ramdisk,
            cmdline=config.cmdline,
            console_port=self._console_port.number,
            xenstore_port=self._store_port.number,
        )
        for reference, pfn in (
            (GNTTAB_RESERVED_CONSOLE, state.console_pfn),
            (GNTTAB_RESERVED_XENSTORE, state.xenstore_pfn),
        ):
            self.domain.grants.set(reference, 0, self.domain.space.mfn(pfn))
        try:
            self.domain.boot(
                l4_pfn=state.cr3_pfn, rip=state.entry, rsp=state.stack_pointer, rsi=state.start_info_vaddr
            )
        except ValueError as error:
            raise DomainBuildError(f"{config.kernel}: {error}") from error
        return state

    def state(self, nodes: Sequence[KeptNode]) -> MachineState:
        """Of a guest that is held, with its devices and the store; `nodes` is its part of the store. UnsavableError."""
        boot, sizes = self.boot_state, self.sizes
        return MachineState(
            domain=capture(self.domain),
            nodes=list(nodes),
            talk=self.store.pump.state(),
            console_pfn=boot.console_pfn,
            console_port=self._console_port.number,
            store_pfn=boot.xenstore_pfn,
            store_port=self._store_port.number,
            target_mib=sizes.target_mib,
            maxmem_mib=sizes.maxmem_mib,
            vcpus=sizes.vcpus,
        )

    def _page(self, pfn: int) -> Page:
        """A ring page, held writable for good: it can never become a page table under Dom0's hands."""
        mfn = self.domain.space.mfn(pfn)
        if lib.core_get_writable(self.domain.state, mfn):
            raise DomainBuildError(
                f"page {pfn:#x} cannot be a ring: the initial page tables make it one of theirs"
            )
        return Page(self.domain.memory.page(mfn))

    def _nodes_of(self, config: DomainConfig) -> DomainNodes:
        domain, state = self.domain, self.boot_state
        return DomainNodes(
            domid=self._identity.domid,
            name=config.name,
            uuid=str(self._identity.uuid),
            memory_target_kib=config.memory_mib * 1024,
            memory_static_max_kib=config.most_memory_mib * 1024,
            vcpus=config.most_vcpus,
            vcpus_online=config.vcpus,
            console_mfn=domain.space.mfn(state.console_pfn),
            console_port=self._console_port.number,
            store_mfn=domain.space.mfn(state.xenstore_pfn),
            store_port=self._store_port.number,
            start_time=time.time(),
            on_poweroff=config.on_poweroff,
            on_reboot=config.on_reboot,
            on_crash=config.on_crash,
            kernel=str(config.kernel),
            ramdisk=str(config.ramdisk or ""),
            cmdline=config.cmdline,
        )

    # --- what the toolstack asks

    def hold(self, who: str) -> None:
        """The guest executes nothing from soon on (`domain.parked`), until all who hold it have let go."""
        if who == SAVES and who not in self._holders:
            self._still_since = self.domain.system_time()
        self._holders.add(who)
        self.domain.pause()

    def let_go(self, who: str) -> None:
        """Harmless when `who` does not hold it."""
        if who == SAVES and who in self._holders:
            self.domain.watchdogs.put_off(self.domain.system_time() - self._still_since)
        self._holders.discard(who)
        if not self._holders:
            self.domain.unpause()

    @property
    def held(self) -> bool:
        """By anybody."""
        return bool(self._holders)

    def held_by(self, who: str) -> bool:
        return who in self._holders

    def feed(self, data: bytes) -> int:
        """Input for the guest's console; how many bytes of it had room."""
        if self.held_by(SAVES):
            return 0
        try:
            return self._hub.write(data)
        except RingError as error:
            self.log_error(str(error))
            return len(data)

    # --- Dom0's thread

    def serve_console(self) -> None:
        """Moves output on that the readers have room for. A guest that never stops has it moved in many turns; of one
        that is saved nothing is moved."""
        if self.held_by(SAVES) and self.domain.parked:
            return
        try:
            self._backend.on_event()
            self._take_emergency()
            for _ in range(PULLS):
                if not self._hub.pull():
                    break
                self.flush()
            else:
                self.domain.wake_dom0()
        except RingError as error:
            self.log_error(str(error))
        self.flush()

    def _write_emergency(self, data: bytes) -> None:
        """On the vCPU's thread: a hand-over to Dom0's thread, which owns the console. A reader that is slow holds the
        guest back, but never from being stopped or paused."""
        domain = self.domain
        while len(self._emergency) > EMERGENCY_BYTES and not (domain.stopping or domain.paused):
            self._emergency_taken.clear()
            self._emergency_taken.wait(EMERGENCY_LOOK_SECONDS)
        self._emergency += data
        self.domain.wake_dom0()

    def _take_emergency(self) -> None:
        room = min(self._hub.room, len(self._emergency))
        if room:
            data = bytes(self._emergency[:room])
            del self._emergency[:room]
            self._emergency_taken.set()
            self._hub.publish(data)

    def _on_notify(self, mask: int) -> None:
        with suppress(BlockingIOError):
            os.eventfd_read(self._notify_fd)
        self.domain.events.dispatch()
        self.serve_console()
        self._look_at_watchdogs()
        self.on_notified()

    def _look_at_watchdogs(self) -> None:
        """Sets the clock for one that expires earlier than what it was set for."""
        deadline = self.domain.watchdogs.next_deadline
        if deadline is None or (self._watchdog is not None and self._deadline <= deadline):
            return
        if self._watchdog is not None:
            self._watchdog.cancel()
        self._deadline = deadline
        left = max(deadline - self.domain.system_time(), 0) / 1e9
        self._watchdog = self._loop.later(min(left, LONGEST_WAIT_SECONDS), self._on_watchdog)

    def _on_watchdog(self) -> None:
        """One that has expired ends the domain; it may have been put off, though, or the guest not be able to."""
        self._watchdog = None
        if self.held_by(SAVES):
            self._watchdog = self._loop.later(WATCHDOG_AGAIN_SECONDS, self._on_watchdog)
            return
        deadline = self.domain.watchdogs.next_deadline
        if deadline is not None and deadline <= self.domain.system_time():
            self.domain.shutdown(SHUTDOWN_watchdog)
        else:
            self._look_at_watchdogs()

    def _attach(self) -> None:
        self._loop.watch(self._notify_fd, READ, self._on_notify)
        self._hub.connect(self._backend)
        self.store.serve(self._store_page, self._store_port, lib.core_fence)
        if self._saved is not None:
            self.store.go_on(self._saved.state.talk, self._saved.head.known_as)
            self._saved = None

    def _detach(self) -> None:
        """Takes the guest's last words, whether or not readers have room for them; those of one that goes on from a
        file or on another host are said there."""
        if self._watchdog is not None:
            self._watchdog.cancel()
        self.sizes.stop()
        self._loop.watch(self._notify_fd, 0, self._on_notify)
        try:
            while not self.held_by(SAVES) and (output := self._backend.drain()):
                self._hub.publish(output)
        except RingError as error:
            self.log_error(str(error))
        if self._emergency:
            self._hub.publish(bytes(self._emergency))
            self._emergency.clear()
        self._hub.connect(None)
        self.store.stop()
        self._devices.stop()
        self.flush()
        self.on_stopped()

    # --- running, on the vCPU's thread

    def start(self) -> None:
        """Joins Dom0's thread: everything that needs rights is done after this, and the guest finds its devices."""
        if self._saved is None:
            guest = DomainGuest(self.domain)
            self.store.prepare(self._nodes, lambda: self._devices.boot(guest))
        else:
            head = self._saved.head
            self.store.restore(self._saved.state.nodes, known_as=head.known_as, was=head.domid)
        self._loop.call_and_wait(self._attach)

    def go_on(self) -> None:
        """Dom0's thread: a guest that was saved is about to run, and has its devices again."""
        self._devices.resume(DomainGuest(self.domain))

    def run(self) -> str:
        """Runs the guest on this thread; why it stopped, one of REASONS."""
        try:
            self.domain.run()
        except ProcessorError as error:
            self.domain.fail(str(error))
        self._loop.call_and_wait(self._detach)
        self._devices.settle()
        reason = self.domain.stop_reason
        return REASONS.get(SHUTDOWN_crash if reason is None else reason, "crash")

    def close(self) -> None:
        self.domain.close()
        os.close(self._notify_fd)
