"""Instructions that kernels write page tables with: how they are encoded, and what they do."""

from dataclasses import dataclass

from tests.unit.core.world import ADJUST, CARRY, OVERFLOW, PARITY, RAX, SIGN, ZERO

STATUS = CARRY | PARITY | ADJUST | ZERO | SIGN | OVERFLOW
ALU = {"add": 0, "or": 1, "and": 4, "sub": 5, "xor": 6}
BITS = {"bts": 5, "btr": 6, "btc": 7}
REGISTER_FORMS = {"mov": b"\x88", "xchg": b"\x86", "cmpxchg": b"\x0f\xb0", "xadd": b"\x0f\xc0"}
NEVER_LOCKED = {"mov", "stos"}


@dataclass(frozen=True)
class Instruction:
    """`register` is None for an immediate operand (or none); `tail` is what follows ModR/M in the memory operand."""

    name: str
    size: int
    register: int | None
    immediate: int
    lock: bool
    rex: int
    segment: bool
    mod_rm: int
    tail: bytes
    short: bool

    @property
    def has_rex(self) -> bool:
        return bool(self.rex) or self.size == 8 or (self.register or 0) > 7

    def encode(self) -> bytes:
        prefixes = b"\xf0" * self.lock + b"\x3e" * self.segment + b"\x66" * (self.size == 2)
        rex = self.rex & 3 | (8 if self.size == 8 else 0) | (4 if (self.register or 0) > 7 else 0)
        return prefixes + (bytes([0x40 | rex]) if self.has_rex else b"") + self._body()

    def _body(self) -> bytes:
        wide = int(self.size > 1)
        if self.name == "stos":
            return bytes([0xAA | wide])
        if self.name == "not":
            return bytes([0xF6 | wide]) + self._operand(2)
        if self.register is not None:
            return self._opcode(wide) + self._operand(self.register & 7)
        if self.name in BITS:
            return b"\x0f\xba" + self._operand(BITS[self.name]) + bytes([self.immediate & 0xFF])
        if self.name == "mov":
            return bytes([0xC6 | wide]) + self._operand(0) + self._immediate(min(self.size, 4))
        if wide and self.short:
            return b"\x83" + self._operand(ALU[self.name]) + self._immediate(1)
        return bytes([0x80 | wide]) + self._operand(ALU[self.name]) + self._immediate(min(self.size, 4))

    def _opcode(self, wide: int) -> bytes:
        if self.name in ALU:
            return bytes([ALU[self.name] << 3 | wide])
        if self.name in BITS:
            return bytes([0x0F, 0x83 | BITS[self.name] << 3])
        form = REGISTER_FORMS[self.name]
        return form[:-1] + bytes([form[-1] | wide])

    def _operand(self, register: int) -> bytes:
        return bytes([self.mod_rm & 0xC7 | register << 3]) + self.tail

    def _immediate(self, size: int) -> bytes:
        return (self.immediate & (1 << 8 * size) - 1).to_bytes(size, "little")

    # --- what it does

    def source(self, regs: list[int]) -> int:
        """The second operand, as wide as the first."""
        mask = (1 << 8 * self.size) - 1
        if self.register is not None:
            return regs[self._slot()[0]] >> self._slot()[1] & mask
        bits = 8 if self.short and self.size > 1 and self.name in ALU else 8 * min(self.size, 4)
        value = self.immediate & (1 << bits) - 1
        return (value - (value >> bits - 1 << bits)) & mask

    def _slot(self) -> tuple[int, int]:
        """(register, shift): without REX, 4 to 7 name the high bytes."""
        register = self.register or 0
        high = self.size == 1 and not self.has_rex and register >= 4
        return (register - 4, 8) if high else (register, 0)

    def load(self, regs: list[int], value: int) -> None:
        register, shift = self._slot()
        set_register(regs, register, shift, self.size, value)

    def run(self, regs: list[int], flags: int, old: int) -> tuple[int, int, int]:
        """(new value of the operand, flags, which flags are defined); changes `regs`."""
        mask = (1 << 8 * self.size) - 1
        source = self.source(regs) if self.name not in ("not", "stos") else 0
        if self.name in ALU:
            value, status = arithmetic(self.name, old, source, self.size)
            return value, flags & ~STATUS | status, ~0 if self.name in ("add", "sub") else ~ADJUST
        if self.name in BITS:
            bit = 1 << (source if self.register is not None else self.immediate) % (8 * self.size)
            value = {"bts": old | bit, "btr": old & ~bit, "btc": old ^ bit}[self.name]
            return value, flags & ~CARRY | (CARRY if old & bit else 0), ~0
        if self.name == "xadd":
            value, status = arithmetic("add", old, source, self.size)
            self.load(regs, old)
            return value, flags & ~STATUS | status, ~0
        if self.name == "cmpxchg":
            expected = regs[RAX] & mask
            _, status = arithmetic("sub", expected, old, self.size)
            if expected != old:
                set_register(regs, RAX, 0, self.size, old)
            return source if expected == old else old, flags & ~STATUS | status, ~0
        if self.name == "xchg":
            self.load(regs, old)
        if self.name == "not":
            return ~old & mask, flags, ~0
        if self.name == "stos":
            return regs[RAX] & mask, flags, ~0
        return source, flags, ~0


def set_register(regs: list[int], register: int, shift: int, size: int, value: int) -> None:
    """A result of 4 bytes clears the upper half, shorter ones keep what is above."""
    mask = (1 << 8 * size) - 1 << shift
    regs[register] = value if size >= 4 else regs[register] & ~mask | value << shift


def arithmetic(name: str, a: int, b: int, size: int) -> tuple[int, int]:
    """(result, status flags)."""
    bits = 8 * size
    mask, sign = (1 << bits) - 1, 1 << bits - 1
    full = {"add": a + b, "sub": a - b, "or": a | b, "and": a & b, "xor": a ^ b}[name]
    result = full & mask
    flags = ZERO if not result else 0
    flags |= SIGN if result & sign else 0
    flags |= PARITY if bin(result & 0xFF).count("1") % 2 == 0 else 0
    if name in ("add", "sub"):
        flags |= CARRY if full != result else 0
        flags |= ADJUST if (a ^ b ^ result) & 0x10 else 0
        same = (a ^ b) & sign if name == "sub" else ~(a ^ b) & sign
        flags |= OVERFLOW if same and (a ^ result) & sign else 0
    return result, flags
