"""A whole machine for one guest: the domain, its Dom0 back ends, and Dom0's thread that serves them."""

import os
import selectors
import threading
import time
import traceback
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from xenion.abi.grant_table import GNTTAB_RESERVED_CONSOLE, GNTTAB_RESERVED_XENSTORE
from xenion.abi.sched import (
    SHUTDOWN_crash,
    SHUTDOWN_poweroff,
    SHUTDOWN_reboot,
    SHUTDOWN_suspend,
    SHUTDOWN_watchdog,
)
from xenion.builder import BootState, DomainBuildError, KernelImage, build, check_memory, load_kernel
from xenion.config.domain import DomainConfig
from xenion.core import lib
from xenion.dom0.console import ConsoleBackend, ConsoleHub
from xenion.dom0.ring import RingError
from xenion.dom0.xenstore.connection import Connection
from xenion.dom0.xenstore.domain_tree import DomainNodes, populate
from xenion.dom0.xenstore.ring import XenstoreRing
from xenion.dom0.xenstore.store import Store
from xenion.domain.stream import ConsoleStream
from xenion.processor import Processor, ProcessorError
from xenion.vmm.domain import Domain
from xenion.vmm.events import EventChannels

DOMID = 1
PAGES_PER_MIB = 256
REASONS = {
    SHUTDOWN_poweroff: "poweroff",
    SHUTDOWN_reboot: "reboot",
    SHUTDOWN_suspend: "suspend",
    SHUTDOWN_crash: "crash",
    SHUTDOWN_watchdog: "watchdog",
}
LAST_WORDS_SECONDS = 2.0
LONGEST_WAIT_SECONDS = 3600.0
EMERGENCY_BYTES, EMERGENCY_LOOK_SECONDS = 1 << 16, 0.1


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


class Machine:
    """Built and ready in the constructor; `run` until the guest stops.

    KernelImageError, DomainBuildError, ProcessorError, OSError.
    """

    def __init__(
        self,
        config: DomainConfig,
        files: Files,
        processor: Processor,
        *,
        console_fd: int | None = None,
        log: Callable[[bytes], None] | None = None,
    ) -> None:
        image, ramdisk = files.read_kernel(), files.read_ramdisk()
        check_memory(image, ramdisk, config.memory_mib * PAGES_PER_MIB)
        self._notify_fd = os.eventfd(0, os.EFD_CLOEXEC)
        self._console_fd = console_fd
        self._emergency = bytearray()
        self._emergency_taken = threading.Event()
        self.uuid = uuid.uuid4()
        self.domain = Domain(
            processor,
            domid=DOMID,
            nr_pages=config.memory_mib * PAGES_PER_MIB,
            handle=self.uuid.bytes,
            notify_fd=self._notify_fd,
            console_output=self._write_emergency,
        )
        self._console_port, self._store_port = GuestPort(self.domain.events), GuestPort(self.domain.events)
        self._store_port.number = self.domain.events.bind_dom0(self._serve_store)
        self._console_port.number = self.domain.events.bind_dom0(self._serve_console)
        self.boot_state = self._build(config, image, ramdisk)
        self._connect_console(log)
        self._connect_store(config)
        self.log_error: Callable[[str], None] = lambda text: None
        self._ended = threading.Event()
        self._more_store = False

    # --- construction

    def _build(self, config: DomainConfig, image: KernelImage, ramdisk: bytes | None) -> BootState:
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

    def _page(self, pfn: int) -> Page:
        """A ring page, held writable for good: it can never become a page table under Dom0's hands."""
        mfn = self.domain.space.mfn(pfn)
        if lib.core_get_writable(self.domain.state, mfn):
            raise DomainBuildError(
                f"page {pfn:#x} cannot be a ring: the initial page tables make it one of theirs"
            )
        return Page(self.domain.memory.page(mfn))

    def _connect_console(self, log: Callable[[bytes], None] | None) -> None:
        backend = ConsoleBackend(self._page(self.boot_state.console_pfn), self._console_port, lib.core_fence)
        self._backend = backend
        self.console = ConsoleHub(backend, log=log)
        self._stream: ConsoleStream | None = None

    def _connect_store(self, config: DomainConfig) -> None:
        domain, state = self.domain, self.boot_state
        store, memory_kib = Store(), config.memory_mib * 1024
        nodes = DomainNodes(
            domid=DOMID,
            name=config.name,
            uuid=str(self.uuid),
            memory_target_kib=memory_kib,
            memory_static_max_kib=memory_kib,
            vcpus=config.vcpus,
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
        populate(store, Connection(0), nodes)
        store.introduce(DOMID)
        guest = Connection(DOMID)
        self._store_ring = XenstoreRing(
            self._page(state.xenstore_pfn), self._store_port, lib.core_fence, store, guest
        )

    # --- Dom0's thread

    def _serve_store(self) -> None:
        """A share of the guest's requests; more of them take another turn, so that the console gets its own."""
        try:
            self._more_store = self._store_ring.on_event()
        except RingError as error:
            self._more_store = False
            self.log_error(str(error))
        if self._more_store:
            self.domain.wake_dom0()

    def _serve_console(self) -> None:
        try:
            self._backend.on_event()
            self._pull()
        except RingError as error:
            self.log_error(str(error))

    def _pull(self) -> None:
        """Moves output on as long as there is some and the attached stream has room."""
        self._take_emergency()
        while self.console.pull():
            self._flush()
        self._flush()

    def _flush(self) -> None:
        if self._stream is not None:
            self._stream.flush()

    def _write_emergency(self, data: bytes) -> None:
        """On the vCPU's thread: a hand-over to Dom0's thread, which owns the console. A reader that is slow holds the
        guest back."""
        while len(self._emergency) > EMERGENCY_BYTES and not self.domain.stopping:
            self._emergency_taken.clear()
            self._emergency_taken.wait(EMERGENCY_LOOK_SECONDS)
        self._emergency += data
        self.domain.wake_dom0()

    def _take_emergency(self) -> None:
        while self._emergency and (room := min(self.console.room, len(self._emergency))):
            data = bytes(self._emergency[:room])
            del self._emergency[:room]
            self._emergency_taken.set()
            self.console.publish(data)
            self._flush()

    def _serve(self) -> None:
        """Dom0's thread. A bug of ours in it ends the domain: one whose back ends are dead is no use to anybody."""
        try:
            self._serve_until_end()
        except Exception:  # noqa: BLE001  whatever it was goes to the report
            self.domain.fail(traceback.format_exc())

    def _serve_until_end(self) -> None:
        """Until the guest has ended and its last words are out."""
        while not self._ended.is_set():
            self._serve_once(self._watchdog_wait())
        deadline = time.monotonic() + LAST_WORDS_SECONDS
        self._serve_console()
        while self._stream is not None and self._stream.busy and time.monotonic() < deadline:
            self._serve_once(0.1)

    def _watchdog_wait(self) -> float | None:
        """Seconds until a watchdog of the guest's expires; one that has expired ends the domain."""
        deadline = self.domain.watchdogs.next_deadline
        if deadline is None:
            return None
        left = deadline - self.domain.system_time()
        if left <= 0:
            self.domain.shutdown(SHUTDOWN_watchdog)
            return None
        return min(left / 1e9, LONGEST_WAIT_SECONDS)

    def _serve_once(self, timeout: float | None) -> None:
        for key, mask in self._selector.select(timeout):
            if key.fd == self._notify_fd:
                os.eventfd_read(self._notify_fd)
                self.domain.events.dispatch()
                if self._more_store:
                    self._serve_store()
            elif self._stream is not None and self._stream.attached:
                self._stream.on_ready(mask)
        self._serve_console()

    # --- running

    def prepare(self) -> None:
        """Starts Dom0's thread: everything that needs rights is done after this."""
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._notify_fd, selectors.EVENT_READ)
        if self._console_fd is not None:
            self._stream = ConsoleStream(self.console, self._console_fd, self._selector)
        self._thread = threading.Thread(target=self._serve, name="dom0", daemon=True)
        self._thread.start()

    def run(self) -> str:
        """Runs the guest on this thread; why it stopped ("poweroff", "reboot", "suspend", "crash")."""
        try:
            self.domain.run()
        except ProcessorError as error:
            self.domain.fail(str(error))
        self._ended.set()
        os.eventfd_write(self._notify_fd, 1)
        self._thread.join()
        self._selector.close()
        reason = self.domain.stop_reason
        return REASONS.get(SHUTDOWN_crash if reason is None else reason, "crash")

    def close(self) -> None:
        self.domain.close()
        os.close(self._notify_fd)


def open_files(config: DomainConfig) -> Files:
    """OSError with the path."""
    ramdisk = Path(config.ramdisk).open("rb") if config.ramdisk else None  # noqa: SIM115  open for the domain's life
    return Files(Path(config.kernel).open("rb"), ramdisk)
