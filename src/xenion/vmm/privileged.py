"""Emulation of privileged instructions, as Xen does for PV kernels (xen/arch/x86/pv/emul-priv-op.c, emul-inv-op.c).

Each emulator gets the vCPU and the decoded instruction, and says whether it did it; what nobody does faults in
the guest. cli and sti are the core's.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from xenion.abi.arch_x86_64 import FLAT_KERNEL_CS64, SEGBASE_FS, SEGBASE_GS_KERNEL
from xenion.abi.xen import Hypercall, VMASST_TYPE_architectural_iopl
from xenion.core import ffi, lib
from xenion.vmm.cpuid import lookup
from xenion.vmm.errors import GuestError
from xenion.vmm.vcpu import Vcpu

RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI = range(8)
M64 = (1 << 64) - 1
FLAG_DF = 0x400
LONGEST = 15
LOW = 0xFFFFFFFF
FORCED_CPUID = b"\x0f\x0bxen\x0f\xa2"
XSETBV = b"\x0f\x01\xd1"
UD_VECTOR = 6

CR0_BASE, CR0_TS, CR4 = 0x80050033, 8, 0x620
EFER_VALUE = 0xD01
XEN_PAT = 0x050100070406

MSR_TSC, MSR_APIC_BASE, MSR_PLATFORM_ID, MSR_UCODE_REV = 0x10, 0x1B, 0x17, 0x8B
MSR_PAT, MSR_EFER = 0x277, 0xC0000080
MSR_MISC_ENABLE = 0x1A0
MISC_ENABLE_VALUE = 1 << 0 | 1 << 11 | 1 << 12 | 1 << 23
"""Fast strings, without which Linux believes `rep movsb` to be slow; no BTS, no PEBS, no xTPR messages."""
INTEL = int.from_bytes(b"Genu", "little")
MSR_HWCR, HWCR_TSC_FREQ_SEL = 0xC0010015, 1 << 24
MSR_FS_BASE, MSR_GS_BASE, MSR_KERNEL_GS_BASE, MSR_TSC_AUX = 0xC0000100, 0xC0000101, 0xC0000102, 0xC0000103

PIT_CHANNEL_2 = 0x42
"""Reads as zero: an early kernel that waits for it to count must not wait for all ones."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """Bytes from the opcode on, the prefixes' meaning, and where the next instruction is without operands."""

    opcode: bytes
    prefixes: int
    operand_size: int
    rex: int
    repeat: bool = False

    def length(self, opcode_bytes: int) -> int:
        return self.prefixes + opcode_bytes


def _fetch(vcpu: Vcpu) -> bytes:
    """What can be read of the instruction: it may end right before an unmapped page."""
    rip = vcpu.state.rip
    first = min(LONGEST, 4096 - rip % 4096)
    data = vcpu.read(rip, first)
    try:
        return data + vcpu.read(rip + first, LONGEST - first)
    except GuestError:
        return data


def _decode(code: bytes) -> Instruction:
    size, at, repeat = 4, 0, False
    while at < len(code) and code[at] in (0x66, 0xF2, 0xF3, 0x2E, 0x36, 0x3E, 0x26, 0x64, 0x65):
        size = 2 if code[at] == 0x66 else size
        repeat |= code[at] in (0xF2, 0xF3)
        at += 1
    rex = 0
    if at < len(code) and code[at] & 0xF0 == 0x40:
        rex, at = code[at], at + 1
    return Instruction(code[at:], at, size, rex, repeat)


def _port_open(vcpu: Vcpu, port: int, size: int) -> bool:
    """The guest's own bitmap (PHYSDEVOP_set_iobitmap) may open ports to its applications."""
    ports = vcpu.io_ports
    if port + size > ports:
        return False
    bits = int.from_bytes(vcpu.read_as_kernel(vcpu.io_bitmap + port // 8, 2), "little")
    return not bits >> port % 8 & ((1 << size) - 1)


def _iopl_allows(vcpu: Vcpu) -> bool:
    """A virtual level: the kernel counts as ring 1, or ring 0 if it asked for the architectural IOPL."""
    architectural = vcpu.domain.state.vm_assist >> VMASST_TYPE_architectural_iopl & 1
    level = 3 if not vcpu.state.kernel_mode else 0 if architectural else 1
    return bool(vcpu.state.iopl >> 12 >= level)


def _set_low(vcpu: Vcpu, register: int, value: int, size: int) -> None:
    """A result of 4 bytes clears the upper half, shorter ones keep what is above."""
    regs = vcpu.state.regs
    mask = (1 << 8 * size) - 1
    regs[register] = value & mask if size == 4 else regs[register] & ~mask | value & mask


def _port(vcpu: Vcpu, code: Instruction) -> bool:
    """No device is behind any port: reads give all ones, writes go nowhere."""
    op = code.opcode[0]
    immediate = op < 0xE8
    port = code.opcode[1] if immediate and len(code.opcode) > 1 else vcpu.state.regs[RDX] & 0xFFFF
    size = code.operand_size if op & 1 else 1
    if not (_iopl_allows(vcpu) or _port_open(vcpu, port, size)):
        return False
    if not op & 2:
        _set_low(vcpu, RAX, 0 if port == PIT_CHANNEL_2 else LOW, size)
    vcpu.state.rip += code.length(2 if immediate else 1)
    return True


def _string_port(vcpu: Vcpu, code: Instruction) -> bool:
    """ins and outs, at most a page's worth at a time: a longer repeat comes back here."""
    regs, op = vcpu.state.regs, code.opcode[0]
    size = code.operand_size if op & 1 else 1
    if not (_iopl_allows(vcpu) or _port_open(vcpu, regs[RDX] & 0xFFFF, size)):
        return False
    whole = regs[RCX] if code.repeat else 1
    count = min(whole, 4096 // size)
    backwards = vcpu.flags & FLAG_DF
    pointer = RDI if op < 0x6E else RSI
    start = regs[pointer] - (count - 1) * size if backwards else regs[pointer]
    if op < 0x6E and count:
        vcpu.write(start & M64, b"\xff" * (count * size))
    regs[pointer] = regs[pointer] + (-count if backwards else count) * size & M64
    if code.repeat:
        regs[RCX] = whole - count
    if count == whole:
        vcpu.state.rip += code.length(1)
    return True


def _base(vcpu: Vcpu, which: int) -> int:
    return int(lib.core_get_base(vcpu.state, which))


def _read_msr(vcpu: Vcpu, msr: int) -> int | None:
    state = vcpu.state
    if msr == MSR_FS_BASE:
        return _base(vcpu, SEGBASE_FS)
    if msr == MSR_GS_BASE:
        return _base(vcpu, SEGBASE_GS_KERNEL)
    constants = {
        MSR_KERNEL_GS_BASE: state.gs_user,
        MSR_EFER: EFER_VALUE,
        MSR_PAT: XEN_PAT,
        MSR_TSC: vcpu.domain.tsc(),
        MSR_APIC_BASE: 0xFEE00000 | 1 << 11 | 1 << 8,
        MSR_UCODE_REV: 0,
        MSR_PLATFORM_ID: 0,
    }
    return constants.get(msr, _vendors(vcpu).get(msr))


def _vendors(vcpu: Vcpu) -> dict[int, int]:
    """Constants that only the one vendor's processors have."""
    is_intel = lookup(vcpu.domain.cpuid, 0, 0)[1] == INTEL
    return {MSR_MISC_ENABLE: MISC_ENABLE_VALUE} if is_intel else {MSR_HWCR: HWCR_TSC_FREQ_SEL}


def _rdmsr(vcpu: Vcpu, code: Instruction) -> bool:
    regs = vcpu.state.regs
    value = _read_msr(vcpu, regs[RCX] & LOW)
    if value is None:
        return False
    regs[RAX], regs[RDX] = value & LOW, value >> 32
    vcpu.state.rip += code.length(2)
    return True


def _wrmsr(vcpu: Vcpu, code: Instruction) -> bool:
    regs = vcpu.state.regs
    msr, value = regs[RCX] & LOW, (regs[RDX] & LOW) << 32 | regs[RAX] & LOW
    bases = {MSR_FS_BASE: SEGBASE_FS, MSR_GS_BASE: SEGBASE_GS_KERNEL}
    if msr in bases or msr == MSR_KERNEL_GS_BASE:
        if value >> 47 not in (0, (1 << 17) - 1):
            return False
        if msr == MSR_KERNEL_GS_BASE:
            vcpu.state.gs_user = value
        else:
            lib.core_set_base(vcpu.state, bases[msr], value)
    elif not (msr in (MSR_UCODE_REV, MSR_TSC_AUX) or (msr == MSR_EFER and value == EFER_VALUE)):
        return False
    vcpu.state.rip += code.length(2)
    return True


def _register_operand(code: Instruction) -> tuple[int, int] | None:
    """(control or debug register, general register) of a mov that names two registers."""
    if len(code.opcode) < 3 or code.opcode[2] >> 6 != 3:
        return None
    modrm = code.opcode[2]
    return modrm >> 3 & 7 | (code.rex & 4) << 1, modrm & 7 | (code.rex & 1) << 3


def _read_control(vcpu: Vcpu, code: Instruction) -> bool:
    operand = _register_operand(code)
    state = vcpu.state
    values = {
        0: CR0_BASE | (CR0_TS if state.task_switched else 0),
        2: vcpu.domain.fault_address(vcpu),
        3: state.cr3 >> 12 << 12,
        4: CR4,
    }
    if operand is None or operand[0] not in values:
        return False
    state.regs[operand[1]] = values[operand[0]]
    state.rip += code.length(3)
    return True


def _write_control(vcpu: Vcpu, code: Instruction) -> bool:
    operand = _register_operand(code)
    if operand is None:
        return False
    control, value = operand[0], vcpu.state.regs[operand[1]]
    if control == 0:
        if (value ^ CR0_BASE) & ~CR0_TS:
            return False
        lib.core_task_switched(vcpu.state, int(bool(value & CR0_TS)))
    elif control == 2:
        vcpu.domain.set_fault_address(vcpu, value)
    elif control == 3:
        if lib.core_new_kernel_table(vcpu.state, value >> 12):
            return False
    elif control != 4:  # CR4 keeps what the processor offers, whatever is written
        return False
    vcpu.state.rip += code.length(3)
    return True


def _debug(vcpu: Vcpu, code: Instruction) -> bool:
    operand = _register_operand(code)
    if operand is None or operand[0] > 7:
        return False
    number, register = operand
    reads = code.opcode[1] == 0x21
    handler = vcpu.domain.handlers[Hypercall.get_debugreg if reads else Hypercall.set_debugreg]
    try:
        if reads:
            vcpu.state.regs[register] = handler(vcpu, [number])
        else:
            handler(vcpu, [number, vcpu.state.regs[register]])
    except GuestError:
        return False
    vcpu.state.rip += code.length(3)
    return True


def _clts(vcpu: Vcpu, code: Instruction) -> bool:
    lib.core_task_switched(vcpu.state, 0)
    vcpu.state.rip += code.length(2)
    return True


def _xsetbv(vcpu: Vcpu, code: Instruction) -> bool:
    regs = vcpu.state.regs
    if code.opcode[:3] != XSETBV or regs[RCX] & LOW:
        return False
    if not vcpu.domain.processor.write_xcr0((regs[RDX] & LOW) << 32 | regs[RAX] & LOW):
        return False
    vcpu.state.rip += code.length(3)
    return True


def _skip(vcpu: Vcpu, code: Instruction) -> bool:
    """wbinvd, invd: there is no cache that anybody could tell from memory."""
    vcpu.state.rip += code.length(2)
    return True


def _load_ss(vcpu: Vcpu, code: Instruction) -> bool:
    """mov ss, r: the kernel is at ring 1 here, so the processor refuses ring 3's stack selectors that Xen allows."""
    modrm = code.opcode[1] if len(code.opcode) > 1 else 0
    if modrm >> 6 != 3 or modrm >> 3 & 7 != 2 or not vcpu.state.kernel_mode:
        return False
    selector = vcpu.state.regs[modrm & 7 | (code.rex & 1) << 3] & 0xFFFF
    if selector & 3 != 3 or lib.core_load_stack_selector(vcpu.state, selector):
        return False
    vcpu.state.rip += code.length(2)
    return True


def _far_return(vcpu: Vcpu, code: Instruction) -> bool:
    """lretq to the kernel's own code segment, which from ring 1 looks like a return to ring 3."""
    state = vcpu.state
    if not state.kernel_mode or not code.rex & 8:
        return False
    rip, selector = vcpu.read_words(state.regs[RSP], 2)
    if selector & 0xFFFF != FLAT_KERNEL_CS64:
        return False
    state.regs[RSP] = state.regs[RSP] + 16 & M64
    state.rip = rip
    return True


PORT_OPCODES = (0xE4, 0xE5, 0xE6, 0xE7, 0xEC, 0xED, 0xEE, 0xEF)
STRING_PORT_OPCODES = range(0x6C, 0x70)

Emulator = Callable[[Vcpu, Instruction], bool]
ONE_BYTE: Mapping[int, Emulator] = (
    dict.fromkeys(PORT_OPCODES, _port)
    | dict.fromkeys(STRING_PORT_OPCODES, _string_port)
    | {0x8E: _load_ss, 0xCB: _far_return}
)
TWO_BYTES: Mapping[int, Emulator] = {
    0x01: _xsetbv,
    0x06: _clts,
    0x08: _skip,
    0x09: _skip,
    0x20: _read_control,
    0x21: _debug,
    0x22: _write_control,
    0x23: _debug,
    0x30: _wrmsr,
    0x32: _rdmsr,
}
FOR_APPLICATIONS = {_port, _string_port}


def _general_protection(vcpu: Vcpu) -> bool:
    code = _decode(_fetch(vcpu))
    if not code.opcode:
        return False
    two = code.opcode[0] == 0x0F and len(code.opcode) > 1
    emulator = TWO_BYTES.get(code.opcode[1]) if two else ONE_BYTE.get(code.opcode[0])
    if emulator is None or (not vcpu.state.kernel_mode and emulator not in FOR_APPLICATIONS):
        return False
    return emulator(vcpu, code)


def _forced_cpuid(vcpu: Vcpu) -> bool:
    state = vcpu.state
    if vcpu.read(state.rip, len(FORCED_CPUID)) != FORCED_CPUID:
        return False
    regs = state.regs
    leaf = regs[RAX] & LOW
    values = ffi.new("uint32_t[4]", lookup(vcpu.domain.cpuid, leaf, regs[RCX] & LOW))
    lib.core_own_cpuid(state, leaf, values)
    regs[RAX], regs[RBX], regs[RCX], regs[RDX] = values
    state.rip += len(FORCED_CPUID)
    return True


def emulate(vcpu: Vcpu, vector: int, error: int) -> bool:
    """After #UD or #GP: did the instruction get done?"""
    try:
        if vector == UD_VECTOR:
            return _forced_cpuid(vcpu)
        return _general_protection(vcpu)
    except GuestError:
        return False  # the instruction itself cannot be read
