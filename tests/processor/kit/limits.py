"""What a processor cannot show its guests, row by row: the table in docs/processor.md, and failures that must happen.

A test marked `limit(NAME)` asks for what real hardware does; where the row names the processor it has to fail, so
that a row goes when its cause has gone. `python -m tests.processor.kit.limits` writes the table into the page.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from xenion.processor.hardware import is_software_kvm

PAGE = Path(__file__).parents[3] / "docs" / "processor.md"
BEGIN, END = "<!-- limits: made by tests/processor/kit/limits.py -->", "<!-- end of limits -->"


@dataclass(frozen=True)
class Limit:
    """`what` a guest does, what it gets on `real` hardware under Xen, and what the `processors` named show instead."""

    what: str
    real: str
    shows: str
    processors: tuple[str, ...] = ("software",)
    varies: tuple[str, ...] = ()
    """Those of them on which it depends on the host: there such tests are skipped, not expected to fail."""


SOFTWARE_KVM = "software KVM"
"""The hardware processor on a KVM that has no hardware of its own, as in many cloud machines."""


def names_of(processor: str) -> set[str]:
    """What the rows may call it here."""
    return {processor, SOFTWARE_KVM} if processor == "hardware" and is_software_kvm() else {processor}


LIMITS: Mapping[str, Limit] = {
    "icebp": Limit(
        "opcode F1 (`icebp`)",
        "#DB behind it",
        "#UD; on a software KVM, #DB at it",
        ("software", SOFTWARE_KVM),
        varies=(SOFTWARE_KVM,),
    ),
    "lock_mov": Limit(
        "a lock prefix before an instruction that takes none, such as `mov`", "#UD", "the prefix is ignored"
    ),
    "stack_fault": Limit("a non-canonical stack pointer", "#SS", "#GP"),
    "jump_fault": Limit("a jump to a non-canonical address", "#GP at the jump", "#GP at the target"),
    "change_missing": Limit(
        "an instruction that reads and writes a missing page", "one #PF, of a write", "a #PF of a read first"
    ),
    "half_stores": Limit(
        "a store of more than 8 bytes whose second page is missing",
        "#PF, nothing stored",
        "#PF, its first half stored",
    ),
    "half_fstp": Limit(
        "an 80-bit store whose second page is missing",
        "#PF; its first half is stored, or nothing, depending on the host",
        "the same",
        ("hardware",),
        varies=("hardware",),
    ),
    "early_fetch_fault": Limit(
        "code that runs into a missing page",
        "#PF at the instruction that crosses into it",
        "#PF at most 32 bytes before it, the instructions between not done",
    ),
    "vex": Limit(
        "VEX-encoded instructions on 128-bit registers (AVX, which is not advertised)",
        "#UD",
        "they run as their SSE forms, wrongly",
    ),
    "hidden_features": Limit(
        "rdtscp, rdseed, adcx, clflushopt, clwb, xbegin, which are not advertised", "#UD", "they run"
    ),
    "hidden_encodings": Limit(
        "insertq (SSE4A), tpause (WAITPKG), which are not advertised", "#UD", "they run as something else"
    ),
    "xop": Limit("XOP and TBM instructions, which are not advertised", "#UD", "they run as `pop`"),
    "segment_limits": Limit(
        "32-bit code beyond a segment's limit, or against its rights",
        "#GP",
        "limits and rights of data segments are not checked",
    ),
    "breakpoints": Limit(
        "hardware breakpoints (debug registers 0 to 3)",
        "#DB",
        "the registers are kept, nothing stops",
        ("software", "hardware"),
    ),
    "host_features": Limit(
        "instructions that the host has and CPUID does not advertise",
        "#UD, or they run, depending on the host",
        "the same",
        ("hardware",),
        varies=("hardware",),
    ),
    "host_tables": Limit(
        "sidt, sgdt and str, without UMIP",
        "addresses of the hypervisor's",
        "the monitor's, on a software KVM the host's",
        ("hardware",),
        varies=("hardware",),
    ),
    "host_cpuid": Limit(
        "cpuid as it is, not with Xen's prefix", "the domain's policy", "the host's answers", (SOFTWARE_KVM,)
    ),
    "hypervisor_cpuid": Limit(
        "cpuid's leaf 0x40000000, not with Xen's prefix",
        "Xen's signature",
        "that, or the host's, depending on the host",
        (SOFTWARE_KVM,),
        varies=(SOFTWARE_KVM,),
    ),
    "user_bit": Limit(
        "a page without the user bit in an application's own page tables",
        "open to the application: Xen sets the bit",
        "the same; other processors keep it closed",
        ("hardware",),
    ),
    "selectors": Limit(
        "the kernel's own CS and SS, read by mov or changed by a far return",
        "0xe033 and 0xe02b",
        "0x33 and 0x2b; 0xe033 and 0xe02b in frames",
        ("hardware",),
    ),
    "host_segments": Limit(
        "segments of the guest's own GDT or LDT",
        "loaded as they are",
        "Linux's flat ones are right; loading others gives null selectors or faults",
        (SOFTWARE_KVM,),
    ),
    "first_slot": Limit(
        "a read at HYPERVISOR_VIRT_START",
        "#PF",
        "#PF, often with the bit for reserved bits",
        (SOFTWARE_KVM,),
        varies=(SOFTWARE_KVM,),
    ),
    "lazy_fpu": Limit(
        "fpu_taskswitch and CR0.TS", "#NM at the next FPU instruction", "none", (SOFTWARE_KVM,)
    ),
    "nested_task": Limit("the flag NT", "kept across iret", "lost", (SOFTWARE_KVM,)),
    "misaligned_sse": Limit(
        "a misaligned operand of an SSE instruction that wants it aligned", "#GP", "#UD", (SOFTWARE_KVM,)
    ),
    "simd_faults": Limit("an SSE exception that is unmasked in MXCSR", "#XM", "no exception"),
    "misaligned": Limit(
        "a misaligned operand of an SSE instruction that wants it aligned", "#GP", "the access is done"
    ),
    "alignment_check": Limit(
        "a misaligned access with the alignment-check flag", "#AC", "the access is done"
    ),
    "rdpmc": Limit("rdpmc", "#GP", "#UD"),
    "mxcsr_flags": Limit("the exception flags of MXCSR", "set by SSE arithmetic", "never set"),
    "mmx_exponent": Limit("an x87 register's exponent after an MMX instruction", "all ones", "as it was"),
}


def table() -> str:
    """The rows as the page has them."""
    lines = ["| A guest that uses | gets on hardware | gets here | processors |", "|---|---|---|---|"]
    lines += [f"| {r.what} | {r.real} | {r.shows} | {', '.join(r.processors)} |" for r in LIMITS.values()]
    return "\n".join(lines)


def in_page(text: str) -> str:
    """The page's text with its table renewed."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{table()}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    PAGE.write_text(in_page(PAGE.read_text()))
