"""The report of a domain that crashed: registers, guest stack, last hypercalls, our own traceback."""

import struct
from collections.abc import Iterator

from xenion.abi.xen import Hypercall
from xenion.builder import BootState
from xenion.core import ffi
from xenion.processor import Registers
from xenion.vmm.domain import Domain
from xenion.vmm.errors import GuestError
from xenion.vmm.vcpu import Vcpu

STACK_WORDS = 1024
SHOWN_FRAMES = 40
CONSOLE_LINES = 150
KERNEL_TEXT = range(0xFFFFFFFF80000000, 0xFFFFFFFFFF000000)


def write_report(domain: Domain, boot: BootState, name: str, console_tail: bytes) -> str:
    failure = domain.failure or "the guest kernel stopped with a crash"
    sections = [
        ("Domain", [f"name {name}", *f"reason {failure}".splitlines()]),
        *(section for vcpu in domain.vcpus for section in _vcpu(domain, vcpu, boot)),
        ("Last console output", console_tail.decode(errors="replace").splitlines()[-CONSOLE_LINES:]),
    ]
    return (
        "\n\n".join(
            f"{title}\n" + "\n".join(f"  {_printable(line)}" for line in lines) for title, lines in sections
        )
        + "\n"
    )


def _vcpu(domain: Domain, vcpu: Vcpu, boot: BootState) -> Iterator[tuple[str, list[str]]]:
    """One that was never brought up has nothing to tell."""
    if not vcpu.state.initialised:
        return
    of = f" of vCPU {vcpu.id}" if len(domain.vcpus) > 1 else ""
    registers = domain.processor.registers(vcpu.id)
    yield f"Registers{of}", list(_registers(registers, vcpu))
    yield (
        f"Guest stack{of} (every word that points into the kernel)",
        list(_stack(vcpu, registers, boot)),
    )
    yield f"Last hypercalls{of}, newest last", list(_calls(vcpu))


def _printable(line: str) -> str:
    """What the guest has chosen must not drive the terminal of whoever reads the report."""
    return "".join(c if c.isprintable() or c == "\t" else f"\\x{ord(c):02x}" for c in line)


def _registers(registers: Registers, vcpu: Vcpu) -> Iterator[str]:
    mode = "kernel" if vcpu.state.kernel_mode else "user"
    yield f"rip {registers.rip:#018x}  rflags {registers.rflags:#x}  {mode} mode"
    names = list(registers.general)
    for i in range(0, len(names), 4):
        yield "  ".join(f"{n:<3} {registers.general[n]:#018x}" for n in names[i : i + 4])
    yield f"cr2 {registers.cr2:#018x}  cr3 {registers.cr3:#018x}"
    yield "  ".join(f"{n} {s:#06x} base {registers.bases[n]:#x}" for n, s in registers.selectors.items())


def _stack(vcpu: Vcpu, registers: Registers, boot: BootState) -> Iterator[str]:
    yield _named(registers.rip, boot)
    shown = 0
    for word in _words(vcpu, registers.general["rsp"] & ~7):
        if word in KERNEL_TEXT and shown < SHOWN_FRAMES:
            shown += 1
            yield "? " + _named(word, boot)


def _words(vcpu: Vcpu, address: int) -> Iterator[int]:
    for _ in range(STACK_WORDS):
        try:
            yield struct.unpack("<Q", vcpu.read(address, 8))[0]
        except GuestError:
            return
        address += 8


def _named(address: int, boot: BootState) -> str:
    symbol = boot.symbols.lookup(address)
    return f"{address:#018x}" + (f" {symbol}" if symbol else "")


def _calls(vcpu: Vcpu) -> Iterator[str]:
    state = vcpu.state
    size = len(ffi.unpack(state.calls, 32))
    for index in range(max(0, state.call_count - size), state.call_count):
        call = state.calls[index % size]
        number = int(call.number)
        name = Hypercall(number).name if number in set(Hypercall) else str(number)
        args = ", ".join(f"{a:#x}" for a in call.args)
        yield f"{name}({args}) = {call.result}  at {call.rip:#x}"
