"""The time-stamp counter, and what instructions that show the machine's own registers tell."""

from __future__ import annotations

import struct

import pytest

from tests.processor.conftest import Run
from tests.processor.kit.bench import Guest

USER = ".section .user\nstart:\n"
LEVELS = [pytest.param(False, id="kernel"), pytest.param(True, id="user")]


@pytest.mark.parametrize("user", LEVELS)
def test_the_time_stamp_never_steps_back(run: Run, user: bool) -> None:
    """Nor stands still, over a hundred thousand readings with faults between some of them."""
    source = f"""
    {".section .user" if user else ".text"}
    start: mov $100000, %ecx
        xor %ebx, %ebx
    again: rdtsc
        shl $32, %rdx
        or %rdx, %rax
        cmp %rbx, %rax
        jbe bad
        mov %rax, %rbx
        test $0x3ff, %ecx
        jnz on
        ud2
    on: dec %ecx
        jnz again
        int3
    bad: hlt
    .text
    handler: addq $2, 16(%rsp)
        HIRET"""
    assert run(source, user=user, handlers={6: "handler"}).done


def test_the_published_clock_is_not_ahead(run: Run) -> None:
    """vcpu_time_info: its time stamp lies in the past of every reading."""
    out = run("start: rdtsc; shl $32, %rdx; or %rdx, %rax; mov SHARED_INFO + 40, %rbx; int3")
    assert out["rax"] > out["rbx"] > 0


def test_the_guests_counter_is_the_processors(run: Run) -> None:
    seen: list[int] = []

    def read(guest: Guest) -> None:
        seen.append(guest.domain.processor.tsc())

    out = run("start: HOST 0; rdtsc; shl $32, %rdx; or %rdx, %rax; mov %rax, %rbx; HOST 0; int3", host=[read])
    assert seen[0] < out["rbx"] < seen[1]


# --- registers of the machine

SHOWN = {
    "sidt": ("sidt UDATA", b"\x00\x00" + bytes(8)),
    "sgdt": ("sgdt UDATA", b"\xff\xff" + struct.pack("<Q", 0xFFFF804000000000)),
    "sldt": ("sldt %eax; mov %eax, UDATA", bytes(10)),
    "str": ("str %eax; mov %eax, UDATA", bytes(10)),
    "smsw": ("smsw %ax; mov %ax, UDATA", b"\x33\x00" + bytes(8)),
}
"""What an application can read: nothing of the host's, only constants of the processor."""


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=pytest.mark.limit("host_tables")) if n in ("sidt", "sgdt", "str") else n
        for n in SHOWN
    ],
)
def test_nothing_of_the_host_is_shown(run: Run, name: str) -> None:
    """Or the instruction faults, where the processor can make it (UMIP)."""
    code, expected = SHOWN[name]
    out = run(f"{USER}{code}; int3", user=True)
    if out.end.vector != 13:
        assert out.done
        assert out.read(out.label("UDATA"), 10) == expected


@pytest.mark.limit("host_segments")
def test_lsl_and_lar_show_the_guests_view(run: Run) -> None:
    """The limits and rights of selectors: the guest's flat ones are there, those past the table are not."""
    out = run(
        f"{USER} mov $0xe033, %eax; lar %eax, %ebx; setz %cl; mov $0xfff8, %eax; lar %eax, %edx; setz %ch; int3",
        user=True,
    )
    assert out["rcx"] & 0xFFFF == 1
    assert out["rbx"] & 0xFF00 == 0xFB00


@pytest.mark.parametrize(
    ("selector", "readable"),
    [
        pytest.param(0xE02B, (1, 1), marks=pytest.mark.limit("host_segments")),
        pytest.param(0xE033, (1, 0), marks=pytest.mark.limit("host_segments")),
        (0xE010, (0, 0)),
        (0, (0, 0)),
    ],
)
def test_verr_and_verw(run: Run, selector: int, readable: tuple[int, int]) -> None:
    out = run(
        f"{USER} xor %ebx, %ebx; xor %ecx, %ecx; mov ${selector}, %eax; verr %ax; setz %bl; verw %ax; setz %cl; int3",
        user=True,
    )
    assert (out["rbx"], out["rcx"]) == readable


@pytest.mark.limit("rdpmc")
@pytest.mark.parametrize("user", LEVELS)
def test_no_performance_counter(run: Run, user: bool) -> None:
    out = run((USER if user else "start: ") + "xor %ecx, %ecx; fault: rdpmc; int3", user=user)
    assert (out.end.fault, out.end.rip) == ((13, 0), out.label("fault"))


def test_applications_read_no_model_specific_registers(run: Run) -> None:
    for number in (0x10, 0x1B, 0x174, 0xC0000080, 0xC0000081, 0xC0000102):
        out = run(f"{USER} mov ${number:#x}, %ecx; fault: rdmsr; int3", user=True)
        assert (out.end.fault, out.end.rip) == ((13, 0), out.label("fault"))
