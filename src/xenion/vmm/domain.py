"""A PV domain: memory, vCPU state, event channels, grants, and the cold half of its hypercalls."""

import os
import struct
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from xenion.abi.errno import Errno
from xenion.abi.sched import SHUTDOWN_crash
from xenion.abi.xen import SharedInfo
from xenion.core import ffi, lib
from xenion.processor import Callbacks, Features, Processor, ProcessorError
from xenion.vmm import privileged
from xenion.vmm.clock import scaling
from xenion.vmm.cpu_time import CpuTime
from xenion.vmm.cpuid import domain_leaves
from xenion.vmm.errors import GuestError
from xenion.vmm.events import EventChannels
from xenion.vmm.grants import GrantTable
from xenion.vmm.hypercalls import HANDLERS
from xenion.vmm.memory import PAGE_SIZE, BuildSpace, MachineMemory
from xenion.vmm.vcpu import Vcpu
from xenion.vmm.watchdog import Watchdogs

M2P_INVALID = (1 << 63) - 1
MASK = (1 << 64) - 1
DEFAULT_TICK_NS = 10_000_000
"""A PV vCPU starts with a periodic timer of 100 Hz."""

CR2_OFFSET = 16


def signed(value: int) -> int:
    """A 64-bit result as the core takes it."""
    return value - (1 << 64) if value >> 63 & 1 and value > 0 else value


def _too_many_vcpus(features: Features, wanted: int) -> str:
    most = features.max_vcpus
    return (
        f"the {features.name} processor has {most} virtual CPU{'s' * (most > 1)} for a domain, not {wanted}: "
        + ("lower vcpus and maxvcpus" if features.takes_turns else 'set vcpus = 1, or processor = "software"')
    )


def frame_set(nr_frames: int) -> tuple[Any, Any]:
    """The memory of a `struct frame_set`: a bit a frame, and a bit for each word of those."""
    words = -(-nr_frames // 64)
    return ffi.new("uint64_t[]", words), ffi.new("uint64_t[]", -(-words // 64))


class Domain:
    """Life: constructed, `space` filled by a builder, `boot`, `run` until `stop_reason` is set.

    It begins with `nr_pages` pages and may come to have `most_pages`; 0: no more. `console_output` takes what the guest
    writes to its emergency console. ProcessorError: it has not so many vCPUs.
    """

    def __init__(
        self,
        processor: Processor,
        *,
        domid: int,
        nr_pages: int,
        most_pages: int = 0,
        handle: bytes,
        notify_fd: int,
        console_output: Callable[[bytes], None],
        nr_vcpus: int = 1,
    ) -> None:
        if nr_vcpus > processor.features.max_vcpus:
            raise ProcessorError(_too_many_vcpus(processor.features, nr_vcpus))
        self.domid = domid
        self._notify_fd = notify_fd
        self._closed = self._running = False
        self._cpu_time = CpuTime()
        self.handle = handle
        self.processor = processor
        self.console_output = console_output
        features = processor.features
        self.memory = MachineMemory(
            most_pages or nr_pages, hole_slot=features.hole_slot, ring_3_kernel=features.ring_3_kernel
        )
        self.max_pages = self.memory.nr_pages
        self.space = BuildSpace(self.memory, nr_pages)
        self.stop_reason: int | None = None
        self.shutdown_code: int | None = None
        self.failure: str | None = None
        self.may_suspend = False
        """SHUTDOWN_suspend is no end: Dom0 has asked for it, now or before."""
        self.suspended = False
        """The guest has suspended itself, and is paused since; Dom0's to take back."""
        self.handlers = HANDLERS
        self._frames = ffi.new("struct frame[]", self.memory.nr_frames)
        self._frame_sets = [frame_set(self.memory.nr_frames) for _ in range(2)]
        self.state = ffi.new("struct domain *")
        self._fill_state(nr_vcpus)
        self.vcpus = [Vcpu(self, self.state.vcpus + number) for number in range(nr_vcpus)]
        self.events = EventChannels(self.state, len(self.vcpus))
        self.grants = GrantTable(self.memory)
        self.watchdogs = Watchdogs()
        self.cpuid = domain_leaves(features.cpuid)
        processor.attach(self.state, notify_fd, Callbacks(self._cold_call, self._cold_trap))
        processor.set_cpuid(self.cpuid)

    def _fill_state(self, nr_vcpus: int) -> None:
        state, memory = self.state, self.memory
        state.memory, state.nr_frames, state.first_frame = memory.address, memory.nr_frames, memory.first_mfn
        state.frames = self._frames
        for frame_set, (frames, words) in zip((state.written, state.dropped), self._frame_sets, strict=True):
            frame_set.frames, frame_set.words = frames, words
        state.domid = self.domid
        state.shared_info = memory.shared_info_mfn * PAGE_SIZE
        state.m2p = memory.m2p_mfn * PAGE_SIZE
        state.ring_3_kernel = self.processor.features.ring_3_kernel
        state.hole_slot = self.processor.features.hole_slot
        state.hole_entry, state.user_hole_entry = memory.hole_entry, memory.user_hole_entry
        state.gdt_area, state.gdt_l1 = memory.areas_address, memory.areas_l1 * PAGE_SIZE
        state.zero_page = memory.zero_mfn * PAGE_SIZE
        state.tlb_clock = 1
        state.nr_vcpus = nr_vcpus
        for number in range(nr_vcpus):
            vcpu = state.vcpus[number]
            vcpu.id, vcpu.domain = number, state
            vcpu.info = memory.first_vcpu_info(number)
            vcpu.debugreg[6], vcpu.debugreg[7] = 0xFFFF0FF0, 0x400
            vcpu.period = DEFAULT_TICK_NS
        lib.core_map_descriptor_areas(state, memory.reserved_gdt_mfn * PAGE_SIZE)
        lib.core_adopt_frames(state, memory.first_mfn, self.space.nr_pages)
        for mfn in (memory.shared_info_mfn, memory.grant_mfn):
            lib.core_share_frame(state, mfn)

    # --- life

    def boot(self, *, l4_pfn: int, rip: int, rsp: int, rsi: int) -> None:
        """Takes over what the builder wrote: validates its tables and sets vCPU 0 up. ValueError: they are bad."""
        self._start_clock()
        for vcpu in self.vcpus:
            self.memory.bytes[vcpu.state.info + 1] = 1  # upcalls masked
        first = self.state.vcpus[0]
        first.initialised = first.online = 1
        rc = lib.core_boot_table(self.state.vcpus, self.space.mfn(l4_pfn))
        if rc:
            raise ValueError(f"the initial page tables are refused ({Errno(-rc).name})")
        self.processor.start(rip, rsp, rsi)

    def _start_clock(self) -> None:
        self.state.tsc_mul, self.state.tsc_shift = scaling(self.processor.tsc)
        self.state.tsc_base = self.processor.tsc()
        wall = time.time_ns()
        self.state.vcpus[0].period_due = self.state.vcpus[0].period
        for vcpu in self.vcpus:
            lib.core_publish_time(vcpu.state)
        lib.core_publish_wallclock(self.state, wall)

    def run(self) -> None:
        """Until the domain stops; ProcessorError if the processor fails it."""
        self._running = True
        try:
            with self._cpu_time.counting():
                self.processor.run()
        finally:
            self._running = False
        if self.state.crashed and self.failure is None:
            self.failure = ffi.string(self.state.crash_reason).decode()
            self.stop_reason = SHUTDOWN_crash

    def stop(self) -> None:
        """Any thread: `run` returns soon."""
        if not self._closed:
            lib.core_stop(self.state)

    def pause(self) -> None:
        """Any thread: soon no vCPU executes another instruction. A flag, no count; guest time goes on.

        Dom0 is woken when the domain has come to be `parked`. Events that come meanwhile wait for `unpause`.
        """
        if not self._closed:
            lib.core_pause(self.state)

    def suspend(self) -> None:
        """The guest's own wish, on its vCPU's thread: it goes no further; Dom0 is woken."""
        self.suspended = True
        self.pause()
        self.wake_dom0()

    def unpause(self) -> None:
        """Any thread: the guest goes on, if it has begun."""
        if not self._closed:
            lib.core_unpause(self.state)

    @property
    def paused(self) -> bool:
        """Any thread: `pause` was called, and not `unpause` since."""
        return bool(self.state.paused)

    @property
    def parked(self) -> bool:
        """Any thread: no vCPU touches guest memory. So it is outside `run`, and of a domain that is paused, soon.

        Of a paused one it stays true until `unpause` or `stop`.
        """
        return not self._running or bool(lib.core_parked(self.state))

    def send_nmi(self, vcpu_id: int) -> None:
        """Any thread: an NMI for the guest's handler, lost when there is none. ValueError: there is no such vCPU."""
        if not 0 <= vcpu_id < len(self.vcpus):
            raise ValueError(
                f"there is no vCPU {vcpu_id}: the last one of this domain is {len(self.vcpus) - 1}"
            )
        if not self._closed:
            lib.core_send_nmi(self.vcpus[vcpu_id].state)

    @property
    def cpu_seconds(self) -> float:
        """Any thread: the host's CPU time that the vCPUs have used so far."""
        return self._cpu_time.seconds

    def vcpu_states(self) -> list[str]:
        """Any thread: "running", "blocked" or "offline" (paused, not brought up, or outside `run`) for each vCPU."""
        runs = self._running and not (self.paused and self.parked)
        return [vcpu.runstate if runs else "offline" for vcpu in self.vcpus]

    @property
    def stopping(self) -> bool:
        return bool(self.state.stopping)

    def shutdown(self, reason: int) -> None:
        """The guest's own request (SHUTDOWN_*)."""
        self.stop_reason = reason if self.shutdown_code is None else self.shutdown_code
        self.stop()

    def fail(self, why: str) -> None:
        """A bug of ours or an impossible guest: this domain ends."""
        self.failure = self.failure or why
        self.stop_reason = SHUTDOWN_crash
        self.stop()

    def close(self) -> None:
        """Nothing of the domain may be used after it."""
        self._closed = True
        self.processor.close()
        self.memory.close()

    # --- what hypercalls ask

    def vcpu(self, number: int) -> Vcpu:
        if number >= len(self.vcpus):
            raise GuestError(Errno.ENOENT)
        return self.vcpus[number]

    @property
    def pages(self) -> int:
        return int(self.state.pages)

    @property
    def max_pfn(self) -> int:
        """The guest's own word in its shared_info."""
        return self._shared_info().arch.max_pfn

    @property
    def nmi_reason(self) -> int:
        """XEN_NMIREASON_*, in the shared_info too."""
        return self._shared_info().arch.nmi_reason

    def _shared_info(self) -> SharedInfo:
        return SharedInfo.from_buffer_copy(self.memory.page(self.memory.shared_info_mfn))

    def set_pfn(self, mfn: int, pfn: int) -> None:
        self.memory.words[self.memory.m2p_mfn * 512 + mfn] = pfn & M2P_INVALID

    def tsc(self) -> int:
        """The guest's."""
        return self.processor.tsc() + int(self.state.tsc_offset) & MASK

    def system_time(self) -> int:
        """ns since the domain booted."""
        return int(lib.core_system_time(self.state))

    def wake_dom0(self) -> None:
        """Have Dom0's thread look at what it waits for."""
        os.eventfd_write(self._notify_fd, 1)

    def raise_event(self, port: int) -> None:
        """On the vCPU's thread."""
        lib.core_set_pending(self.state, port)

    def fault_address(self, vcpu: Vcpu) -> int:
        """The guest's virtual CR2, which lives in its vcpu_info."""
        (value,) = struct.unpack_from("<Q", self.memory.bytes, vcpu.state.info + CR2_OFFSET)
        return int(value)

    def set_fault_address(self, vcpu: Vcpu, value: int) -> None:
        struct.pack_into("<Q", self.memory.bytes, vcpu.state.info + CR2_OFFSET, value)

    def _cold_call(self, state: Any, number: int, args: Sequence[int]) -> int:
        handler = self.handlers.get(number)
        if handler is None:
            return -Errno.ENOSYS
        try:
            return signed(handler(self.vcpus[state.id], list(args)))
        except GuestError as error:
            return -error.errno
        except Exception:  # noqa: BLE001  a bug of ours ends this domain only, with its traceback in the report
            self.fail(traceback.format_exc())
            return -Errno.ENOSYS

    def _cold_trap(self, state: Any, vector: int, error: int) -> bool:
        try:
            return privileged.emulate(self.vcpus[state.id], vector, error)
        except Exception:  # noqa: BLE001  as above
            self.fail(traceback.format_exc())
            return False
