"""Runs a piece of machine code in a real domain on a processor, and tells which traps it took."""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from tests.processor.kit.assemble import Image, assemble
from tests.processor.kit.layout import NR_PAGES, ONE_TABLE, PAGE, PFNS, Shape, constants, locate, page_tables
from xenion.processor import Processor, ProcessorError
from xenion.vmm.domain import Domain
from xenion.vmm.vcpu import Vcpu

PRELUDE = (Path(__file__).parent / "prelude.S").read_text()
TRAP_CALL, HOST_CALL = 62, 63
EVENT, FAILSAFE, SYSCALL, SYSCALL32 = 256, 257, 258, 259
BREAKPOINT = 3
NAMED = {"event": EVENT, "failsafe": FAILSAFE, "syscall": SYSCALL, "syscall32": SYSCALL32}
WITH_ERROR = {8, 10, 11, 12, 13, 14, 17}
OPEN_TO_USERS = {3, 4}
MASK_EVENTS = 4
SAVED = ("r15", "r14", "r13", "r12", "rbp", "rbx", "r10", "r9", "r8", "rdi", "rsi", "rdx")
KERNEL_CS, USER_CS, USER_CS32, STACK_SELECTOR = 0xE030, 0xE033, 0xE023, 0xE02B
INTERRUPTS = 0x200
TRACE = 0x100


class GuestFailure(Exception):
    """The domain ended otherwise than by a trap that the test stops at; the message says how."""


@dataclass(frozen=True)
class Trap:
    """One entry into the guest's kernel: a vector (or EVENT, SYSCALL ..), and the frame that Xen's ABI shows."""

    vector: int
    error: int | None
    rip: int
    cs: int
    rflags: int
    rsp: int
    ss: int
    cr2: int
    masked: bool
    registers: Mapping[str, int]

    def __getitem__(self, register: str) -> int:
        """The whole register, or by a 32-bit name (eax .. esp, r8d ..) its low half."""
        if register in self.registers:
            return self.registers[register]
        name = register.removesuffix("d") if register[1].isdigit() else "r" + register[1:]
        return self.registers[name] & 0xFFFFFFFF

    @property
    def fault(self) -> tuple[int, int | None]:
        return self.vector, self.error

    @property
    def in_user(self) -> bool:
        return self.cs & 3 == 3


@dataclass(frozen=True)
class Code:
    """What to run. `source`: the test's assembly, with a label `start` where it begins; at an `int3` it is done.

    `user`: start is an application's. `compat`: a 32-bit one's. `resume`: label of an instruction that traps -> label
    where it goes on. `handlers`: vector (or "event", "syscall" ..) -> label of the test's own handler. `host`: the
    functions of HOST.
    `beside`: each runs in a thread of its own while the guest does, until `Guest.ended`; `prepare` is called before.
    `open_vectors`: further vectors that applications may raise by `int n`.
    """

    source: str
    user: bool = False
    compat: bool = False
    resume: Mapping[str, str] = field(default_factory=dict)
    handlers: Mapping[int | str, str] = field(default_factory=dict)
    host: Sequence[Callable[[Guest], int | None]] = ()
    prepare: Callable[[Guest], None] | None = None
    beside: Sequence[Callable[[Guest], None]] = ()
    open_vectors: frozenset[int] = frozenset()
    rflags: int = INTERRUPTS | 2
    stack: int | None = None
    masked: bool = True
    shape: Shape = ONE_TABLE
    most_traps: int = 1000


class Guest:
    """The domain while it runs, for the functions of a test: memory by the guest's addresses and labels."""

    def __init__(self, domain: Domain, image: Image, notify_fd: int) -> None:
        self.domain = domain
        self.notify_fd = notify_fd
        self.image = image
        self.traps: list[Trap] = []
        self.ended = threading.Event()

    def label(self, name: str) -> int:
        return self.image.labels[name]

    def machine_address(self, address: int | str) -> int:
        virtual = self.label(address) if isinstance(address, str) else address
        return self.domain.memory.first_mfn * PAGE + locate(virtual)

    def read(self, address: int | str, size: int) -> bytes:
        at = self.machine_address(address)
        return bytes(self.domain.memory.bytes[at : at + size])

    def u64(self, address: int | str) -> int:
        return int(self.domain.memory.words[self.machine_address(address) >> 3])

    def words(self, address: int | str, count: int) -> list[int]:
        at = self.machine_address(address) >> 3
        return list(self.domain.memory.words[at : at + count])

    def poke(self, address: int | str, value: int) -> None:
        """One aligned word, at once, without the processor knowing."""
        self.domain.memory.words[self.machine_address(address) >> 3] = value

    @property
    def vcpu(self) -> Vcpu:
        return self.domain.vcpus[0]


@dataclass(frozen=True)
class Outcome:
    """How a run went: its traps, of which the last ended it, and its memory."""

    traps: Sequence[Trap]
    image: Image
    memory: bytes

    @property
    def end(self) -> Trap:
        return self.traps[-1]

    def __getitem__(self, register: str) -> int:
        """A register at the end."""
        return self.end[register]

    @property
    def done(self) -> bool:
        """Did it come to its `int3`?"""
        return self.end.vector == BREAKPOINT

    def label(self, name: str) -> int:
        return self.image.labels[name]

    def read(self, address: int | str, size: int) -> bytes:
        at = locate(self.label(address) if isinstance(address, str) else address)
        return self.memory[at : at + size]

    def u64(self, address: int | str) -> int:
        return int.from_bytes(self.read(address, 8), "little")

    def words(self, address: int | str, count: int) -> list[int]:
        return list(struct.unpack(f"<{count}Q", self.read(address, 8 * count)))

    @cached_property
    def faults(self) -> list[tuple[int, int | None]]:
        """(vector, error code) of every trap but the one that ended it."""
        return [t.fault for t in self.traps[:-1]]


class Bench:
    """One domain for one run."""

    def __init__(self, processor: Processor, code: Code) -> None:
        self.code = code
        self.notify_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.domain = Domain(
            processor,
            domid=1,
            nr_pages=NR_PAGES,
            handle=bytes(16),
            notify_fd=self.notify_fd,
            console_output=self._ignore,
        )
        self._failure: BaseException | None = None
        memory = self.domain.memory
        names = constants(memory.first_mfn, memory.m2p_address)
        equates = "".join(f".equ {n}, {v:#x}\n" for n, v in names.items())
        self.image = assemble(equates + PRELUDE + code.source + "\n")
        self.guest = Guest(self.domain, self.image, self.notify_fd)
        self.domain.handlers = {**self.domain.handlers, TRAP_CALL: self._on_trap, HOST_CALL: self._on_host}
        self._load()

    @staticmethod
    def _ignore(data: bytes) -> None:
        """Nothing here prints."""

    # --- before it runs

    def _load(self) -> None:
        space, mfn = self.domain.space, self.domain.memory.first_mfn
        for address, data in self.image.sections.items():
            space.write(locate(address), data)
        for pfn, words in page_tables(mfn, self.domain.memory.shared_info_mfn, self.code.shape).items():
            space.write_words(pfn * PAGE, words)
        self._write_handlers()
        start = self.image.labels["start"]
        selector = (
            USER_CS32 if self.code.compat else USER_CS if self.code.user or self.code.compat else KERNEL_CS
        )
        top = self.image.labels["USTACK" if self.code.user or self.code.compat else "STACK"] + 4 * PAGE
        rflags = self.code.rflags & ~(INTERRUPTS if self.code.masked else 0)
        stack = top if self.code.stack is None else self.code.stack
        self._write_entry({}, start, selector, rflags, stack, STACK_SELECTOR)

    def _write_handlers(self) -> None:
        labels = self.image.labels
        targets = {v: labels["trap_stubs"] + 16 * v for v in range(260)}
        for key, label in self.code.handlers.items():
            targets[NAMED[key] if isinstance(key, str) else key] = labels[label]
        table = b""
        for vector in range(256):
            level = 3 if vector in OPEN_TO_USERS | self.code.open_vectors else 0
            table += struct.pack("<BBHIQ", vector, level | MASK_EVENTS, KERNEL_CS | 3, 0, targets[vector])
        self._write("trap_table", table)
        for name, vector in NAMED.items():
            self._write(f"handler_{name}", struct.pack("<Q", targets[vector]))

    def _write(self, label: str, data: bytes) -> None:
        self.domain.space.write(locate(self.image.labels[label]), data)

    def _write_entry(
        self, registers: Mapping[str, int], rip: int, cs: int, rflags: int, rsp: int, ss: int
    ) -> None:
        general = [registers.get(name, 0) for name in SAVED]
        frame = [
            registers.get("rax", 0),
            registers.get("r11", 0),
            registers.get("rcx", 0),
            0,
            rip,
            cs,
            rflags,
            rsp,
            ss,
        ]
        self._write("enter_registers", struct.pack("<21Q", *general, *frame))

    # --- while it runs, on the vCPU's thread

    def _on_trap(self, vcpu: Vcpu, args: list[int]) -> int:
        try:
            trap = self._read_trap(vcpu, args[0])
            self.guest.traps.append(trap)
            target = self._continuation(trap)
        except BaseException as error:  # noqa: BLE001  raised again by `run`
            self._failure, target = error, None
        if target is None or len(self.guest.traps) >= self.code.most_traps:
            self.domain.stop()
            return 0
        rflags = trap.rflags & ~TRACE
        self._write_entry(trap.registers, target, trap.cs, rflags, trap.rsp, trap.ss)
        return 0

    def _continuation(self, trap: Trap) -> int | None:
        labels = self.image.labels
        for label, target in self.code.resume.items():
            if labels[label] == trap.rip:
                return labels[target]
        return None

    def _read_trap(self, vcpu: Vcpu, at: int) -> Trap:
        words = vcpu.read_words(at, 16)
        registers = dict(zip(SAVED, words, strict=False))
        registers["rax"], vector, registers["rcx"], registers["r11"] = words[12:16]
        error = vcpu.read_words(at + 128, 1)[0] if vector in WITH_ERROR else None
        rip, cs, rflags, rsp, ss = vcpu.read_words(at + 128 + 8 * (error is not None), 5)
        registers["rsp"] = rsp
        cr2 = self.domain.fault_address(vcpu)
        return Trap(vector, error, rip, cs & 0xFFFF, rflags, rsp, ss, cr2, bool(cs >> 32 & 1), registers)

    def _on_host(self, vcpu: Vcpu, args: list[int]) -> int:
        try:
            return self.code.host[args[0]](self.guest) or 0
        except BaseException as error:  # noqa: BLE001  raised again by `run`
            self._failure = error
            self.domain.stop()
            return 0

    # --- the run

    def boot(self) -> None:
        """ProcessorError, ValueError."""
        self.domain.boot(
            l4_pfn=PFNS["l4"],
            rip=self.image.labels["nucleus_start"],
            rsp=self.image.labels["TRAP_STACK"] + 4 * PAGE,
            rsi=0,
        )
        if self.code.prepare:
            self.code.prepare(self.guest)

    def run(self, seconds: float) -> Outcome:
        """GuestFailure when it does not end by a trap of its own within `seconds`."""
        threads = [threading.Thread(target=f, args=[self.guest]) for f in self.code.beside]
        watchdog = threading.Timer(seconds, lambda: self.domain.fail(f"no end after {seconds:g} s"))
        try:
            self.boot()
            for thread in threads:
                thread.start()
            watchdog.start()
            self.domain.run()
        except (ProcessorError, ValueError) as error:
            raise GuestFailure(str(error)) from error
        finally:
            watchdog.cancel()
            self.guest.ended.set()
            for thread in threads:
                if thread.ident:
                    thread.join()
        if self._failure is not None:
            raise self._failure
        if self.domain.failure is not None:
            raise GuestFailure(
                f"{self.domain.failure}; traps: {[hex(t.vector) for t in self.guest.traps[-3:]]}"
            )
        memory = self.domain.memory
        return Outcome(
            self.guest.traps,
            self.image,
            bytes(memory.bytes[memory.first_mfn * PAGE : memory.nr_frames * PAGE]),
        )

    def close(self) -> None:
        self.domain.close()
        os.close(self.notify_fd)
