"""What a domain is, beside its memory: taken from one that is held, and put into another one.

A saved state is as hostile as a guest. Who owns a frame and what page table it is pinned as is in there; what follows
from that is not believed but found out anew, by the core's own checks. So a state that was tampered with makes a guest
that crashes, or is refused, and nothing worse.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from ctypes import sizeof
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from xenion.abi.arch_x86_64 import VcpuGuestContext, VGCF_i387_valid
from xenion.abi.errno import Errno
from xenion.abi.event_channel import EvtchnFifoControlBlock
from xenion.core import ffi, lib
from xenion.processor import CpuidLeaf, Features, ProcessorError
from xenion.vmm.clock import scaling
from xenion.vmm.context import guest_context
from xenion.vmm.cpuid import domain_leaves
from xenion.vmm.domain import Domain
from xenion.vmm.errors import GuestError
from xenion.vmm.events import PortState
from xenion.vmm.hypercalls.initialise import check_addresses, fill, start_of
from xenion.vmm.hypercalls.vcpu import LONGEST_PERIOD_NS, SHORTEST_PERIOD_NS
from xenion.vmm.memory import GRANT_FRAMES, GRANT_STATUS_FRAMES, PAGE_SIZE, MachineMemory
from xenion.vmm.vcpu import Vcpu

LEVEL_SHIFT, LEVELS = 61, 4
SPECIAL_AT_ONCE = 4096
VCPU_INFO_SIZE = 64
FXSAVE_BYTES = 512
CLOCKS_DIFFER = 1e-3
"""Two measurements of the same TSC differ by less than this."""

MASK = (1 << 64) - 1

U8 = Annotated[int, Meta(ge=0, lt=1 << 8)]
U16 = Annotated[int, Meta(ge=0, lt=1 << 16)]
U32 = Annotated[int, Meta(ge=0, lt=1 << 32)]
U64 = Annotated[int, Meta(ge=0)]


class UnsavableError(Exception):
    """The domain cannot be saved as it is; the message says why."""


class SavedStateError(Exception):
    """A state cannot be put into a domain; the message says why."""


class Port(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """A port that is in use: see `struct port`. `inbox`: raised, and not yet shown to the guest."""

    number: U32
    state: U8
    dom0_end: bool
    vcpu: U16
    other: U32
    priority: U8
    pending: U8
    last_priority: U8
    last_vcpu: U16
    inbox: bool


class Clock(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`tsc`: the guest's when it was taken, at which `system_time` it was; the rest as its time pages have it."""

    system_time: U64
    tsc: U64
    tsc_base: U64
    tsc_mul: U32
    tsc_shift: Annotated[int, Meta(ge=-32, le=32)]
    time_base: U64


class VcpuState(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`context`: a struct vcpu_guest_context; `extended`: what follows FXSAVE's part in an XSAVE image, and `xcr0` the
    states that the guest has chosen, where a processor has such; the rest as `struct vcpu` has it."""

    initialised: bool
    online: bool
    context: bytes
    waiting: U8
    info: U64
    numbers: dict[str, U64]
    virq_port: list[U32]
    poll_ports: list[U32]
    control_block: U64
    queue_tail: list[U32]
    runstate_time: list[U64]
    io_bitmap: U64
    io_ports: U32
    extended: bytes = b""
    xcr0: U64 = 0


Leaf = tuple[U32, U32 | None, U32, U32, U32, U32]
"""As CpuidLeaf."""


class DomainState(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`owned`: runs (first frame, count). `special`: frames that are pinned and at which level, and with level 0 those
    that were given back and are still mapped."""

    processor: str
    cpuid: list[Leaf]
    most_pages: U64
    max_pages: U64
    vm_assist: U64
    owned: list[tuple[U64, U64]]
    special: list[tuple[U64, U8]]
    fifo_frames: list[U64] | None
    grant_version: Annotated[int, Meta(ge=1, le=2)]
    grant_frames: Annotated[int, Meta(ge=1, le=GRANT_FRAMES)]
    ports: list[Port]
    watchdogs: list[U64 | None]
    clock: Clock
    vcpus: Annotated[list[VcpuState], Meta(min_length=1)]


_NUMBERS = (
    "sysenter_callback", "syscall32_callback", "syscall32_masks", "sysenter_masks", "nmi_pending", "nmi_masked",
    "task_switched", "deadline", "period", "period_due", "poll_until", "runstate", "runstate_entry", "runstate_area",
)  # fmt: skip
"""Fields of `struct vcpu` that any value is good for."""


# --- taking


def capture(domain: Domain) -> DomainState:
    """Of a domain that is held, and of which no back end has anything. UnsavableError."""
    if domain.grants.active:
        raise UnsavableError("the guest maps pages that it has granted itself")
    state = domain.state
    return DomainState(
        processor=domain.processor.features.name,
        cpuid=shown_leaves(domain),
        most_pages=domain.memory.nr_pages,
        max_pages=domain.max_pages,
        vm_assist=int(state.vm_assist),
        owned=list(_owned(state)),
        special=list(_special(state)),
        fifo_frames=_fifo_frames(state),
        grant_version=domain.grants.version,
        grant_frames=domain.grants.frames,
        ports=[_port(domain, number) for number in domain.events.bound()],
        watchdogs=domain.watchdogs.deadlines(),
        clock=Clock(
            domain.system_time(), domain.tsc(), state.tsc_base, state.tsc_mul, state.tsc_shift, state.time_base
        ),
        vcpus=[_vcpu(vcpu) for vcpu in domain.vcpus],
    )  # fmt: skip


def shown_leaves(domain: Domain) -> list[Leaf]:
    """What its guest is told of its processor."""
    return _rows(domain.cpuid)


def _rows(leaves: Sequence[CpuidLeaf]) -> list[Leaf]:
    return [(r.leaf, r.subleaf, r.eax, r.ebx, r.ecx, r.edx) for r in leaves]


def _owned(state: Any) -> Iterator[tuple[int, int]]:
    count, at = ffi.new("uint64_t *"), 0
    while first := lib.core_used_run(state, at, count):
        yield int(first), int(count[0])
        at = first + count[0]


def _special(state: Any) -> Iterator[tuple[int, int]]:
    for word in _all_of(lib.core_special_frames, state):
        yield word & (1 << LEVEL_SHIFT) - 1, word >> LEVEL_SHIFT


def _all_of(search: Callable[..., int], state: Any) -> Iterator[int]:
    """What a search of the core's finds, some at a time."""
    at, found = ffi.new("uint64_t *"), ffi.new("uint64_t[]", SPECIAL_AT_ONCE)
    while count := search(state, at, found, SPECIAL_AT_ONCE):
        yield from ffi.unpack(found, count)


def _fifo_frames(state: Any) -> list[int] | None:
    if not state.fifo:
        return None
    return [state.fifo_array[i] // PAGE_SIZE for i in range(state.fifo_words // lib.FIFO_PAGE_WORDS)]


def _port(domain: Domain, number: int) -> Port:
    p, state = domain.state.ports[number], domain.state
    inbox = number < lib.DOM0_PORTS and bool(state.inbox[number // 64] >> number % 64 & 1)
    return Port(
        number, p.state, bool(p.dom0_end), p.vcpu, p.number, p.priority, p.pending, p.last_priority, p.last_vcpu,
        inbox,
    )  # fmt: skip


def _vcpu(vcpu: Vcpu) -> VcpuState:
    state, processor = vcpu.state, vcpu.domain.processor
    context = guest_context(vcpu, processor.registers(vcpu.id))
    image, xcr0 = b"", 0
    if state.initialised:
        try:
            image, xcr0 = processor.read_fpu(vcpu.id), processor.read_xcr0(vcpu.id)
        except ProcessorError as error:
            raise UnsavableError(str(error)) from error
        context.flags |= VGCF_i387_valid
        context.fpu_ctxt[:] = list(image[:FXSAVE_BYTES])
    return VcpuState(
        initialised=bool(state.initialised),
        online=bool(state.online),
        context=bytes(context),
        waiting=state.waiting,
        info=state.info,
        numbers={name: int(getattr(state, name)) for name in _NUMBERS},
        virq_port=list(state.virq_port),
        poll_ports=list(state.poll_ports[0 : state.poll_count]),
        control_block=state.control_block,
        queue_tail=list(state.queue_tail),
        runstate_time=list(state.runstate_time),
        io_bitmap=vcpu.io_bitmap,
        io_ports=vcpu.io_ports,
        extended=image[FXSAVE_BYTES:],
        xcr0=xcr0,
    )


def shown_pages(domain: Domain) -> dict[int, bytes]:
    """Frames that a file holds otherwise than they are: a kernel's top tables, as the guest has written them."""
    pages: dict[int, bytes] = {}
    for mfn in _all_of(lib.core_holding_tables, domain.state):
        entries = ffi.new("uint64_t[512]")
        lib.core_shown_table(domain.state, mfn, entries)
        pages[mfn] = bytes(ffi.buffer(entries))
    return pages


def shared_runs(memory: MachineMemory) -> list[tuple[int, int]]:
    """The few frames of the hypervisor's, beside the M2P, that the guest sees or has filled."""
    return [
        (memory.shared_info_mfn, 1),
        (memory.spare_info_mfn, 1),
        (memory.grant_mfn, GRANT_FRAMES + GRANT_STATUS_FRAMES),
    ]


def memory_runs(domain: Domain, state: DomainState) -> list[tuple[int, int]]:
    """All frames, in runs (first, count) in order, that a saved domain's memory is: its own, and the hypervisor's that
    it sees or has filled."""
    memory = domain.memory
    return sorted([(memory.m2p_mfn, memory.m2p_pages), *shared_runs(memory), *state.owned])


# --- putting back


@contextmanager
def _checked() -> Iterator[None]:
    try:
        yield
    except GuestError as error:
        raise SavedStateError(f"its state makes no sense ({error.errno.name})") from error
    except ProcessorError as error:
        raise SavedStateError(f"its state makes no sense: {error}") from error
    except (OverflowError, ValueError, IndexError, AttributeError, TypeError) as error:
        raise SavedStateError(f"its state makes no sense ({error})") from error


def _require(okay: object, what: str) -> None:
    if not okay:
        raise SavedStateError(f"its state makes no sense: {what}")


def check_processor(features: Features, name: str, leaves: Sequence[Leaf]) -> None:
    """Can a guest of the processor `name`, which was told so of it, go on with one of these? SavedStateError."""
    if name != features.name:
        raise SavedStateError(f"it ran on the {name} processor, and this is the {features.name} one")
    if not set(_rows(domain_leaves(features.cpuid))).issuperset(leaves):
        raise SavedStateError("this processor does not have all that its CPUID leaves promise")


def prepare(domain: Domain, state: DomainState) -> None:
    """Before the memory is filled: a new domain of no pages becomes the owner of its frames. SavedStateError."""
    check_processor(domain.processor.features, state.processor, state.cpuid)
    _require(len(state.vcpus) == len(domain.vcpus), "the count of its virtual CPUs")
    _require(state.most_pages == domain.memory.nr_pages, "the size of its memory")
    with _checked():
        domain.cpuid = tuple(CpuidLeaf(*row) for row in state.cpuid)
        domain.processor.set_cpuid(domain.cpuid)
        domain.max_pages = min(state.max_pages, domain.memory.nr_pages)
        domain.state.vm_assist = state.vm_assist
        _adopt(domain, state.owned)
        if state.grant_version != domain.grants.version:
            domain.grants.set_version(domain.state, state.grant_version)
        domain.grants.grow(domain.state, state.grant_frames)


def _adopt(domain: Domain, runs: Sequence[tuple[int, int]]) -> None:
    end = domain.memory.first_mfn
    for first, count in runs:
        _require(end <= first and 0 < count <= domain.memory.nr_frames - first, "its frames")
        lib.core_adopt_run(domain.state, first, count)
        end = first + count


def _pin(domain: Domain, tables: Sequence[tuple[int, int]]) -> None:
    """One may lead to another that has to come first."""
    while tables:
        refused = [(frame, level) for frame, level in tables if lib.core_pin(domain.state, frame, level)]
        _require(len(refused) < len(tables), "its page tables")
        tables = refused


def resume(domain: Domain, state: DomainState, late_ns: int = 0) -> None:
    """When its memory is as it was: all else, so that `run` goes on with it. `late_ns`: so much time has passed since
    for its guest, too. SavedStateError."""
    with _checked():
        _restore_clock(domain, state.clock, late_ns)
        _restore_places(domain, state)
        _restore_ports(domain, state.ports)
        _require(all(level <= LEVELS for _, level in state.special), "its page tables")
        _pin(domain, [(frame, level) for frame, level in state.special if level != lib.FRAME_LEAVING])
        _restore_vcpus(domain, state.vcpus)
        for frame, level in state.special:
            if level == lib.FRAME_LEAVING:
                _core(lib.core_release_frame(domain.state, frame), "its frames")
        domain.watchdogs.set_deadlines(state.watchdogs)


def _core(rc: int, what: str) -> None:
    if rc:
        raise SavedStateError(f"its state makes no sense: {what} ({Errno(-rc).name})")


def _restore_clock(domain: Domain, clock: Clock, late_ns: int) -> None:
    """The guest's time goes on where it would be, and its TSC too, if it can have one of its own; the time pages of one
    that is another's, or of another frequency, are made anew."""
    state, tsc, own = domain.state, domain.processor.tsc, domain.processor.features.own_tsc
    _require(clock.tsc_mul, "its clock")
    late = int(late_ns / (clock.tsc_mul * 2.0 ** (clock.tsc_shift - 32)))
    now = tsc()
    state.tsc_offset = clock.tsc + late - now & MASK if own else 0
    domain.processor.tsc_changed()
    state.tsc_base, state.time_base = clock.tsc_base, clock.time_base
    state.tsc_mul, state.tsc_shift = clock.tsc_mul, clock.tsc_shift
    lib.core_publish_wallclock(state, time.time_ns() - clock.system_time - late_ns)
    mul, shift = scaling(tsc)
    if not own or abs(1 - (mul * 2.0**shift) / (clock.tsc_mul * 2.0**clock.tsc_shift)) > CLOCKS_DIFFER:
        state.tsc_base, state.time_base = now + state.tsc_offset & MASK, clock.system_time + late_ns
        state.tsc_mul, state.tsc_shift = mul, shift


def _restore_places(domain: Domain, state: DomainState) -> None:
    """Where the guest has the core put what it shows: pages of its own that stay writable."""
    for vcpu, saved in zip(domain.vcpus, state.vcpus, strict=True):
        if saved.info != domain.memory.first_vcpu_info(vcpu.id):
            offset = saved.info % PAGE_SIZE
            _require(offset <= PAGE_SIZE - VCPU_INFO_SIZE and offset % 8 == 0, "a vcpu_info")
            _core(lib.core_get_writable(domain.state, saved.info // PAGE_SIZE), "a vcpu_info")
            vcpu.state.info = saved.info
    if state.fifo_frames is None:
        return
    for vcpu, saved in zip(domain.vcpus, state.vcpus, strict=True):
        if saved.control_block:
            offset = saved.control_block % PAGE_SIZE
            _require(
                offset <= PAGE_SIZE - sizeof(EvtchnFifoControlBlock) and offset % 8 == 0,
                "a FIFO control block",
            )
            domain.events.init_control(vcpu.id, saved.control_block // PAGE_SIZE, offset)
    for frame in state.fifo_frames:
        domain.events.expand_array(frame)
    for vcpu, saved in zip(domain.vcpus, state.vcpus, strict=True):
        _require(all(tail < domain.state.fifo_words or not tail for tail in saved.queue_tail), "a FIFO queue")
        vcpu.state.queue_tail = saved.queue_tail


def _restore_ports(domain: Domain, ports: Sequence[Port]) -> None:
    for port in ports:
        domain.events.restore(
            port.number, PortState(port.state), port.vcpu, port.other, dom0_end=port.dom0_end
        )
        entry = domain.state.ports[port.number]
        _require(port.last_vcpu < len(domain.vcpus), "an event channel")
        entry.priority, entry.last_priority = (
            port.priority % lib.FIFO_QUEUES,
            port.last_priority % lib.FIFO_QUEUES,
        )
        entry.pending, entry.last_vcpu = bool(port.pending), port.last_vcpu
        if port.inbox:
            lib.core_post_event(domain.state, port.number)


def _restore_vcpus(domain: Domain, saved: Sequence[VcpuState]) -> None:
    contexts = [VcpuGuestContext.from_buffer_copy(each.context) for each in saved]
    for context in contexts:
        check_addresses(context)
    _require(saved[0].initialised, "its first virtual CPU")
    domain.processor.start(contexts[0].user_regs.rip, 0, 0)
    first = domain.vcpus[0].state
    for vcpu, each, context in zip(domain.vcpus, saved, contexts, strict=True):
        masked = domain.memory.bytes[vcpu.state.info + 1]
        if each.initialised:
            rc = lib.core_initialise_vcpu(vcpu.state, first, start_of(context))
            _core(rc, "the registers of a virtual CPU")
            _require(not each.xcr0 or domain.processor.write_xcr0(each.xcr0), "its extended states")
            domain.processor.write_fpu(vcpu.id, bytes(context.fpu_ctxt) + each.extended)
        fill(vcpu, context)
        domain.memory.bytes[vcpu.state.info + 1] = masked
        _restore_vcpu(vcpu, each)
        lib.core_finish_vcpu(vcpu.state, first)


def _restore_vcpu(vcpu: Vcpu, saved: VcpuState) -> None:
    state, events = vcpu.state, vcpu.domain.events
    _require(saved.numbers.keys() == set(_NUMBERS), "a virtual CPU")
    for name, value in saved.numbers.items():
        setattr(state, name, value)
    _require(state.runstate < len(state.runstate_time), "a virtual CPU's runstate")
    _require(state.period or not state.period_due, "a virtual CPU's timers")
    _require(
        not state.period or SHORTEST_PERIOD_NS <= state.period <= LONGEST_PERIOD_NS, "a virtual CPU's timers"
    )
    _require(all(not port or events.state(port) == PortState.VIRQ for port in saved.virq_port), "a VIRQ")
    _require(all(port < events.limit for port in saved.poll_ports), "what a virtual CPU polls")
    _require(saved.waiting <= lib.WAITS_DOWN, "what a virtual CPU waits for")
    state.initialised, state.online = saved.initialised, saved.online and saved.initialised
    state.waiting = saved.waiting if state.online else lib.WAITS_DOWN
    state.virq_port, state.runstate_time = saved.virq_port, saved.runstate_time
    state.poll_ports[0 : len(saved.poll_ports)] = saved.poll_ports
    state.poll_count = len(saved.poll_ports)
    vcpu.io_bitmap, vcpu.io_ports = saved.io_bitmap, saved.io_ports
