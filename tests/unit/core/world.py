"""A small domain on the scripted platform: a few frames, one L1 table for its kernel, registers that tests set."""

import struct
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, Self

from tests.unit.core.scripted import Core
from xenion.abi.xen import DOMID_SELF, Hypercall

PAGE = 4096
P, RW, US, PCD, A, D, PSE, G, NX = 1, 2, 4, 0x10, 0x20, 0x40, 0x80, 0x100, 1 << 63
TABLE = P | RW | US | A | D
RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11 = range(12)
ARGUMENTS = RDI, RSI, RDX, R10, R8, R9
CARRY, PARITY, ADJUST, ZERO, SIGN, INTERRUPT, OVERFLOW = 1, 4, 0x10, 0x40, 0x80, 0x200, 0x800

SHARED_INFO, AREAS, ZERO_PAGE, RESERVED_GDT, HOLE, ALIEN = range(1, 7)
"""Frames of the hypervisor; no guest may touch ALIEN. The machine-to-physical table is behind the domain."""
FIRST = 8
L4, L3, L2, L1, ARGS, ARGS2, STACK, CODE = range(FIRST, FIRST + 8)
SPARE = FIRST + 8
"""The first frame that the domain's own tables do not use."""

BASE = 0xFFFFFF8000000000
"""L4 slot 511; the pages that L1 maps, by number:"""
ARGS_PAGE, ARGS2_PAGE, STACK_PAGE, CODE_PAGE, HOLE_PAGE, SPARE_PAGE = 0, 1, 2, 3, 4, 32
SYSCALL_SIZE = 2
GDT_AREA = 0xFFFF804000000000
HANDLERS = 0x1000000
"""Trap N of a kernel is handled at HANDLERS + 16 N, events at EVENTS."""
EVENTS = 0x2000000
TYPE_SHIFT, PINNED, VALIDATED, KERNEL_FORM = 61, 1 << 60, 1 << 59, 1 << 58
TYPE_COUNT, ALLOCATED = 0xFFFFFFFF, 1 << 31
SEGMENT_TYPE, WRITABLE_TYPE = 5, 7
PENDING, MASK = 2048, 2560
"""Offsets in the shared info page."""


def entry(mfn: int, flags: int = TABLE) -> int:
    return mfn << 12 | flags


def page_address(page: int) -> int:
    return BASE + page * PAGE


def signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


class World:
    """`state` and `vcpu` are the core's structures, `script` the platform's."""

    def __init__(
        self,
        core: Core,
        nr_frames: int = 32,
        nr_vcpus: int = 1,
        *,
        read_only: Iterable[int] = (),
        ring_3: bool = False,
    ) -> None:
        """`read_only`: spare frames that the kernel maps read-only, at `spare_address`. `ring_3`: where it runs."""
        self.core, self.lib, self.ffi = core, core.lib, core.ffi
        self.nr_frames = nr_frames
        total = nr_frames + -(-nr_frames // 511)
        self.state: Any = self.lib.script_create(total, nr_frames, FIRST, nr_vcpus)
        self.script = self.lib.script_of(self.state)
        self.vcpu = self.state.vcpus + 0
        self.memory = memoryview(self.ffi.buffer(self.state.memory, total * PAGE)).cast("B")
        self.words = self.memory.cast("Q")
        self._fill_state(ring_3)
        self._build_tables(read_only)
        rc = self.lib.core_boot_table(self.vcpu, L4)
        if rc:
            raise AssertionError(f"the boot tables are refused ({rc})")
        self.calls = self.upcalls = 0
        self.ready()

    def _fill_state(self, ring_3: bool) -> None:
        state = self.state
        state.domid = 5
        state.shared_info, state.m2p = SHARED_INFO * PAGE, self.nr_frames * PAGE
        state.ring_3_kernel, state.hole_slot = ring_3, 257 if ring_3 else 256
        state.hole_entry, state.user_hole_entry = (
            entry(HOLE, P | RW | A | D),
            entry(HOLE, P | RW | US | A | D),
        )
        state.gdt_area, state.gdt_l1, state.zero_page = GDT_AREA, AREAS * PAGE, ZERO_PAGE * PAGE
        for n in range(state.nr_vcpus):
            state.vcpus[n].info = state.shared_info + 64 * n
            self.memory[state.vcpus[n].info + 1] = 1
        self.lib.core_map_descriptor_areas(state, RESERVED_GDT * PAGE)
        self.lib.core_adopt_frames(state, FIRST, self.nr_frames - FIRST)
        self.lib.core_share_frame(state, SHARED_INFO)

    def _build_tables(self, read_only: Iterable[int]) -> None:
        self.set_word(L4, 511, entry(L3))
        self.set_word(L3, 0, entry(L2))
        self.set_word(L2, 0, entry(L1))
        for page, mfn in ((ARGS_PAGE, ARGS), (ARGS2_PAGE, ARGS2), (STACK_PAGE, STACK), (CODE_PAGE, CODE)):
            self.set_word(L1, page, entry(mfn))
        for mfn in read_only:
            self.set_word(L1, SPARE_PAGE + mfn - SPARE, entry(mfn, P | US | A | D))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.words.release()
        self.memory.release()
        self.lib.script_destroy(self.state)

    # --- memory

    @staticmethod
    def spare_address(mfn: int) -> int:
        return page_address(SPARE_PAGE + mfn - SPARE)

    def word(self, mfn: int, index: int) -> int:
        return self.words[mfn * 512 + index]

    def set_word(self, mfn: int, index: int, value: int) -> None:
        self.words[mfn * 512 + index] = value

    def page(self, mfn: int) -> list[int]:
        return self.words[mfn * 512 : (mfn + 1) * 512].tolist()

    def frame(self, mfn: int) -> Any:
        return self.state.frames[mfn]

    def type_of(self, mfn: int) -> tuple[int, int]:
        """(kind, count): 1-4 a table of that level, SEGMENT_TYPE, WRITABLE_TYPE; kind 0 when the count is."""
        word = self.frame(mfn).type
        count = word & TYPE_COUNT
        return (word >> TYPE_SHIFT if count else 0), count

    def references(self, mfn: int) -> int:
        return int(self.frame(mfn).count & ~ALLOCATED)

    # --- the guest's kernel

    def ready(self) -> None:
        """The vCPU in its kernel, behind a `syscall`, with handlers for every trap."""
        vcpu = self.vcpu
        vcpu.kernel_mode = 1
        vcpu.rip, vcpu.cs, vcpu.ss = page_address(CODE_PAGE) + SYSCALL_SIZE, 0xE033, 0xE02B
        vcpu.regs[RSP] = page_address(STACK_PAGE) + PAGE
        vcpu.kernel_sp = page_address(STACK_PAGE) + PAGE // 2
        vcpu.event_callback = EVENTS
        for vector in range(256):
            vcpu.traps[vector].address = HANDLERS + 16 * vector
        self.script.flags = INTERRUPT | 2

    def put(self, data: bytes, at: int = 0) -> int:
        """Puts arguments into the kernel's two argument pages; their address."""
        offset = ARGS * PAGE + at
        self.memory[offset : offset + len(data)] = data
        return page_address(ARGS_PAGE) + at

    def put_words(self, words: Sequence[int], at: int = 0) -> int:
        return self.put(struct.pack(f"<{len(words)}Q", *words), at)

    def enter(self, number: int, *args: int) -> int | None:
        """One `syscall` of the kernel: the result, or None: it is to be made again with the registers as they are."""
        regs = self.vcpu.regs
        regs[RAX] = number
        for register, value in zip(ARGUMENTS, (*args, *[0] * (6 - len(args))), strict=True):
            regs[register] = value & (1 << 64) - 1
        return self.again()

    def again(self) -> int | None:
        """As `enter`, with the registers as they are. The kernel's event handler, if it is called, just returns."""
        vcpu = self.vcpu
        vcpu.rip = page_address(CODE_PAGE) + SYSCALL_SIZE
        self.calls += 1
        self.lib.core_syscall(vcpu, 0)
        if vcpu.rip == EVENTS:
            self.handle_upcall()
        return None if vcpu.rip == page_address(CODE_PAGE) else signed(vcpu.regs[RAX])

    def stack(self, count: int) -> list[int]:
        """The words on top of the kernel's stack."""
        at = STACK * PAGE + self.vcpu.regs[RSP] - page_address(STACK_PAGE)
        return self.words[at // 8 : at // 8 + count].tolist()

    def handle_upcall(self) -> None:
        vcpu = self.vcpu
        vcpu.regs[RCX], vcpu.regs[R11], vcpu.rip, cs, _, vcpu.regs[RSP], _ = self.stack(7)
        self.memory[vcpu.info], self.memory[vcpu.info + 1] = 0, cs >> 32 & 0xFF
        self.upcalls += 1

    def hypercall(self, number: int, *args: int) -> int:
        """Until it is done."""
        result = self.enter(number, *args)
        while result is None:
            result = self.again()
        return result

    def mmu_update(self, *updates: tuple[int, int]) -> int:
        """(pointer with the command in its low bits, value) each."""
        at = self.put_words([word for update in updates for word in update])
        return self.hypercall(Hypercall.mmu_update, at, len(updates), 0, DOMID_SELF)

    def mmuext(self, command: int, arg1: int = 0, arg2: int = 0) -> int:
        at = self.put_words([command, arg1, arg2])
        return self.hypercall(Hypercall.mmuext_op, at, 1, 0, DOMID_SELF)

    def pending_upcall(self, *, masked: bool) -> None:
        info = self.vcpu.info
        self.memory[info], self.memory[info + 1] = 1, int(masked)

    def faulted(self, vector: int) -> bool:
        return bool(self.vcpu.rip == HANDLERS + 16 * vector)
