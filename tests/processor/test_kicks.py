"""Kicks from other threads: no instruction runs twice or not at all because of one, and none is lost."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable

import pytest

from tests.processor.conftest import Run
from tests.processor.kit.bench import Guest
from xenion.abi.xen import VIRQ_TIMER
from xenion.vmm.events import PortState

LEVELS = [pytest.param(False, id="kernel"), pytest.param(True, id="user")]
SECONDS = [pytest.param(0.25, id="short"), pytest.param(3.0, id="soak", marks=pytest.mark.slow)]
ENOUGH = 100
PORT = 1
"""The first port that a domain hands out."""

EVENTS = """
    .text
    upcall: push %rax           /* takes every event there is */
        movb $0, SHARED_INFO
        xor %eax, %eax
        xchg %rax, SHARED_INFO + 8
        xor %eax, %eax
        xchg %rax, SHARED_INFO + 2048
        incq upcalls
        pop %rax
        HIRET

    now: push %rcx              /* the system time, in rax */
        push %rdx
        rdtsc
        shl $32, %rdx
        or %rdx, %rax
        sub SHARED_INFO + 40, %rax
        movsbl SHARED_INFO + 60, %ecx
        test %ecx, %ecx
        js 1f
        shl %cl, %rax
        jmp 2f
    1:  neg %ecx
        shr %cl, %rax
    2:  mov SHARED_INFO + 56, %ecx
        mul %rcx
        shrd $32, %rdx, %rax
        add SHARED_INFO + 48, %rax
        pop %rdx
        pop %rcx
        ret

    .macro STOP_PERIODIC        /* the timer that every vCPU starts with would hide a lost wake-up */
        mov $7, %edi
        xor %esi, %esi
        HYPERCALL 24
    .endm

    .macro BLOCK
        mov $1, %edi
        xor %esi, %esi
        HYPERCALL 29
    .endm
    .data
    .balign 8
    upcalls: .quad 0
    .text
"""

STEPS = {
    "inc": "incq {a}",
    "add": "addq $3, {a}; subq $2, {a}",
    "xadd": "mov $1, %ecx; lock xadd %rcx, {a}",
    "adc": "stc; adcq $0, {a}",
    "cmpxchg": "mov {a}, %rax; lea 1(%rax), %rcx; lock cmpxchg %rcx, {a}; jne bad",
    "push_pop": "push {a}; incq (%rsp); pop {a}",
    "neg_not": "negq {a}; notq {a}; addq $2, {a}",
    "movs": "mov ${a}, %rsi; mov ${b}, %rdi; movsq; incq {b}; mov ${b}, %rsi; mov ${a}, %rdi; movsq",
    "call": "mov ${a}, %r8; call step",
    "string": "mov ${b}, %rdi; mov $200, %ecx; xor %eax, %eax; rep stosb; sub ${b} + 199, %rdi; add %rdi, {a}",
    "fault": "incq {a}; ud2",
    "breakpoint": "int3",
    "missing": "lea 1(%rbx), %rax; mov %rax, {a}; movq $1, UNOWHERE; nop",
}
"""What is done once a round, on a cell each: it adds one to the cell, whatever comes between."""


def rounds(user: bool) -> str:
    """A loop over all steps until the host sets `stop`; rbx counts the rounds."""
    section = '.section .udata, "aw"' if user else ".data"
    steps = "\n".join(s.format(a=f"a_{n}", b=f"b_{n}").replace("; ", "\n") for n, s in STEPS.items())
    cells = "\n".join(f"a_{n}: .quad 0\nb_{n}: .skip 256" for n in STEPS)
    return f"""
    {".section .user" if user else ".text"}
    start: xor %ebx, %ebx
    again: {steps}
        inc %rbx
        cmpq $0, stop
        je again
    finished: int3
    step: incq (%r8)
        ret
    bad: hlt
    .text
    skip_2: addq $2, 16(%rsp)
        HIRET
    breakpoint: cmpq $finished + 1, 16(%rsp)
        je trap_stubs + 16 * 3
        incq a_breakpoint
        HIRET
    skip_12: pop %rcx           /* the store to UNOWHERE */
        pop %r11
        add $8, %rsp
        addq $12, (%rsp)
        push %r11
        push %rcx
        HIRET
    {section}
    .balign 8
    stop: .quad 0
    {cells}
    """


def storm(seconds: float, masked: bool) -> Callable[[Guest], None]:
    """Kicks as fast as it can and until enough have come through, then tells the guest to stop."""

    def run(guest: Guest) -> None:
        end = time.monotonic() + seconds
        while not guest.ended.is_set() and (
            time.monotonic() < end or not (masked or guest.u64("upcalls") >= ENOUGH)
        ):
            for _ in range(50):
                guest.domain.events.notify(PORT)
        guest.poke("stop", 1)
        guest.domain.events.notify(PORT)

    return run


def bind_port(guest: Guest) -> None:
    assert guest.domain.events.allocate(PortState.INTERDOMAIN) == PORT


@pytest.mark.parametrize("seconds", SECONDS)
@pytest.mark.parametrize("masked", [True, False], ids=["masked", "upcalls"])
@pytest.mark.parametrize("user", LEVELS)
def test_no_instruction_runs_twice(run: Run, user: bool, masked: bool, seconds: float) -> None:
    """A processor that stops between the two halves of a read-modify-write and begins it again shows here."""
    out = run(
        EVENTS + rounds(user), user=user, masked=masked, prepare=bind_port, beside=[storm(seconds, masked)],
        handlers={"event": "upcall", 3: "breakpoint", 6: "skip_2", 14: "skip_12"}, seconds=seconds + 20,
    )  # fmt: skip
    assert out.done
    assert {n: out.u64(f"a_{n}") for n in STEPS} == dict.fromkeys(STEPS, out["rbx"])
    assert out["rbx"] > 0
    assert masked or out.u64("upcalls") >= ENOUGH


@pytest.mark.parametrize("count", [3000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_no_wake_up_is_lost_between_guest_and_dom0(run: Run, count: int) -> None:
    """An event goes back and forth; the guest sleeps in between. One that is lost ends the game."""
    source = f"""
    {EVENTS}
    .text
    start: STOP_PERIODIC
        xor %r12d, %r12d
    again: movb $1, SHARED_INFO + 1 /* so that what is looked at cannot change before the guest sleeps */
        mov upcalls, %rax
        cmp %rax, %r12
        jne new
        BLOCK
        jmp again
    new: mov %rax, %r12
        cmp ${count}, %rax
        jae finished
        mov $4, %edi            /* EVTCHNOP_send */
        mov $port, %rsi
        HYPERCALL 32
        jmp again
    finished: int3
    .data
    port: .long {PORT}
    """

    def bind(guest: Guest) -> None:
        events = guest.domain.events
        assert events.bind_dom0(lambda: events.notify(PORT)) == PORT

    def dom0(guest: Guest) -> None:
        events, fd = guest.domain.events, guest.notify_fd
        events.notify(PORT)
        while not guest.ended.is_set():
            if select.select([fd], [], [], 0.2)[0]:
                os.eventfd_read(fd)
                events.dispatch()

    out = run(
        source,
        masked=True,
        prepare=bind,
        beside=[dom0],
        handlers={"event": "upcall"},
        seconds=20 + count / 200,
    )
    assert out.done
    assert out.u64("upcalls") == count


@pytest.mark.parametrize("count", [3000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_no_kick_is_lost_by_a_guest_that_blocks(run: Run, count: int) -> None:
    """The next event comes as soon as the last has been seen: often while the guest is on its way to sleep."""
    source = f"""
    {EVENTS}
    start: STOP_PERIODIC
        xor %r12d, %r12d
    again: movb $1, SHARED_INFO + 1
        cmpq $0, stop
        jne finished
        mov upcalls, %rcx       /* each time it goes to sleep a little later */
        imul $0x125, %ecx, %ecx
        and $0x7fff, %ecx
    1:  dec %ecx
        jns 1b
        BLOCK
        jmp again
    finished: int3
    .data
    .balign 8
    stop: .quad 0
    """

    def kicker(guest: Guest) -> None:
        for number in range(1, count + 1):
            guest.domain.events.notify(PORT)
            while guest.u64("upcalls") < number and not guest.ended.is_set():
                pass
        guest.poke("stop", 1)
        guest.domain.events.notify(PORT)

    out = run(
        source, prepare=bind_port, beside=[kicker], handlers={"event": "upcall"}, seconds=20 + count / 200
    )
    assert out.done
    assert out.u64("upcalls") >= count


WAITING = {
    "block": "BLOCK",
    "spin": "movb $0, SHARED_INFO + 1; cmpb $0, SHARED_INFO; je 3f; mov $17, %eax; syscall; 3:",
}


@pytest.mark.parametrize("waiting", WAITING)
@pytest.mark.parametrize("count", [1000, pytest.param(50_000, marks=pytest.mark.slow)])
def test_no_timer_is_lost(run: Run, count: int, waiting: str) -> None:
    """Single shots of 0 to 60 us, each armed by the last one's upcall, while another thread kicks."""
    source = f"""
    {EVENTS}
    start: STOP_PERIODIC
        mov ${count}, %r13d
    again: movb $1, SHARED_INFO + 1
        mov upcalls, %r12
        call now
        mov %r13, %rdi
        and $63, %rdi
        imul $1000, %rdi, %rdi
        add %rax, %rdi
        mov %rdi, %r14
        HYPERCALL 15            /* set_timer_op */
    wait: {WAITING[waiting]}
        cmp upcalls, %r12
        je wait
        call now
        cmp %r14, %rax
        jae late
        incq early
    late: dec %r13d
        jnz again
        int3
    .data
    .balign 8
    early: .quad 0
    """

    def bind(guest: Guest) -> None:
        guest.domain.events.bind_virq(VIRQ_TIMER, 0)

    out = run(source, prepare=bind, handlers={"event": "upcall"}, seconds=20 + count / 200)
    assert out.done
    assert (out.u64("upcalls"), out.u64("early")) == (count, 0)


@pytest.mark.parametrize("user", LEVELS)
def test_a_stop_reaches_a_busy_guest(run: Run, user: bool) -> None:
    """However near the start of the run it comes."""
    for delay in range(0, 2000, 100):

        def stop(guest: Guest, delay: int = delay) -> None:
            for _ in range(delay):
                pass
            guest.domain.stop()

        source = (".section .user\n" if user else "") + "start: jmp start"
        run(source, user=user, beside=[stop], seconds=10)
