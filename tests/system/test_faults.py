"""What applications see of faults, traps, system calls and code that changes: the same line by line as on the host."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.processor.kit.limits import SOFTWARE_KVM, names_of
from tests.processor.kit.processors import PROCESSORS, why_not
from tests.system.xm import Xm

if TYPE_CHECKING:
    from collections.abc import Mapping

NAMES = [
    name if macro != "FEATURE" else f"feature_{name}"
    for source in sorted((Path(__file__).parent / "programs" / "faults").glob("*.c"))
    for macro, name in re.findall(
        r"^(CASE|PLAIN|X87|SSE|TELLS|STEPPED|TRACED|FEATURE)\((\w+)[,)]", source.read_text(), re.M
    )
]

OTHER_THAN_THE_HOST: "Mapping[str, str]" = {
    "hypervisor_prefix_cpuid": "nothing happened",
    **{f"vsyscall_{name}": "SIGSEGV code=1 addr=0xffffffffff600" + rest for name, rest in {
        "time": "400 trap=14 err=0x15 at=0xffffffffff600400",
        "gettimeofday": "000 trap=14 err=0x15 at=0xffffffffff600000",
        "getcpu": "800 trap=14 err=0x15 at=0xffffffffff600800",
    }.items()},
    "vsyscall_between_entries": "SIGSEGV code=1 addr=rip+0 trap=14 err=0x15 at=rip+0",
    "vsyscall_with_bad_pointer": "SIGSEGV code=1 addr=rip+0 trap=14 err=0x15 at=rip+0",
    "step_vsyscall": "SIGSEGV code=1 addr=0xffffffffff600400 trap=14 err=0x15 at=0xffffffffff600400",
}  # fmt: skip
"""Case -> what Debian's 6.1 says as a guest of a real Xen, where that is not what the host says: Xen emulates its own
cpuid, and this kernel is built without a vsyscall page."""

ENGINE_CANNOT: "Mapping[str, str]" = {
    name: reason
    for reason, names in {
        "its unit for SSE raises no exception": (
            "sse_invalid", "sse_zero_divide", "sse_overflow", "sse_underflow", "sse_precision", "sse_convert_invalid",
            "sse_bad_mxcsr",
        ),
        "its x87 raises nothing but division by zero": (
            "x87_invalid", "x87_denormal", "x87_overflow", "x87_underflow", "x87_precision", "x87_stack_underflow",
            "x87_stack_overflow", "x87_square_root_of_minus_one",
        ),
        "it runs instructions that cpuid does not offer": (
            "feature_sse4a", "feature_avx", "feature_adx", "feature_rdseed", "feature_clflushopt", "feature_clwb",
            "feature_rdtscp",
        ),
        "it does not know rdpmc": ("rdpmc",),
        "it stores the byte before it asks for the right to read it": ("ins",),
        "it checks no alignment": ("alignment_check", "misaligned_movaps", "misaligned_sse_operand"),
        "it finds the bad address after the jump": ("non_canonical_jump", "non_canonical_return", "iret_non_canonical"),
        "it has no stack fault for addresses": ("non_canonical_stack", "non_canonical_frame"),
        "it checks the first byte of an address only": ("canonical_edge_load",),
        "it reads before it writes": ("null_lock", "readonly_untouched_exchange"),
        "it ignores a null data segment in 32-bit code": ("compatibility_mode_fault",),
        "it translates a whole block before it runs any of it": ("straddling_instruction",),
        "it has no debug registers": ("traced_watchpoint", "traced_hardware_breakpoint"),
    }.items()
    for name in names
}  # fmt: skip
"""Case -> why the software processor shows something else. Strict: a case that comes right must leave the table."""

NO_DEBUG_REGISTERS = {"traced_watchpoint", "traced_hardware_breakpoint"}
EMULATED_BY_THE_KVM = {
    "sse_bad_mxcsr", "canonical_edge_load", "iret_non_canonical", "misaligned_sse_operand", "misaligned_fxsave",
    "mwait", "feature_monitorx", "hypervisor_load", "hypervisor_store", "hypervisor_jump",
}  # fmt: skip


def _outcomes(text: str) -> dict[str, str]:
    return {
        name: outcome
        for name, _, outcome in (line.partition(": ") for line in text.splitlines())
        if name in NAMES
    }


@pytest.fixture(scope="module")
def on_the_host(program: Callable[[str], Path]) -> dict[str, str]:
    done = subprocess.run(
        [program("faults")], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True, timeout=60
    )
    return _outcomes(done.stdout)


@pytest.fixture(scope="module", params=PROCESSORS)
def in_the_guest(
    request: pytest.FixtureRequest,
    program: Callable[[str], Path],
    cloud_kernel: Path,
    busybox: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, str]:
    from tests.system.conftest import GuestMaker

    if why := why_not(request.param):
        pytest.skip(why)
    xm = Xm(tmp_path_factory.mktemp("faults"))
    try:
        config = GuestMaker(xm, cloud_kernel, busybox)(
            "dmesg -n 1; /faults", programs={"faults": program("faults")}, memory=256, processor=request.param
        )
        done = xm.create(config)
    finally:
        left = xm.end_all()
    assert (done.status, left) == (0, [])
    return _outcomes(done.console)


def test_the_kernel_gets_through_all_of_it(in_the_guest: "Mapping[str, str]") -> None:
    assert sorted(in_the_guest) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_an_application_sees(
    request: pytest.FixtureRequest,
    on_the_host: "Mapping[str, str]",
    in_the_guest: "Mapping[str, str]",
    name: str,
) -> None:
    processor = request.node.callspec.params["in_the_guest"]
    if processor == "software" and name in ENGINE_CANNOT:
        request.applymarker(pytest.mark.xfail(reason=ENGINE_CANNOT[name], strict=True))
    if processor == "hardware" and name in NO_DEBUG_REGISTERS:
        request.applymarker(pytest.mark.xfail(reason="they are not loaded yet", strict=True))
    if SOFTWARE_KVM in names_of(processor) and name in EMULATED_BY_THE_KVM:
        pytest.skip("this KVM has its own way with it")
    if name.startswith("feature_"):
        hidden = (
            {"runs unoffered"} if processor == "hardware" else set()
        )  # as the host has it: see docs/processor.md
        assert in_the_guest[name] in {"as cpuid says"} | hidden
    else:
        assert in_the_guest[name] == OTHER_THAN_THE_HOST.get(name, on_the_host[name])
