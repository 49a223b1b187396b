"""Dom0 writes into pages that the guest executes, from a thread of its own: what it tells the guest after that, the
guest acts on with the new code. And its end of the guest's event channels.

The guest's function returns the number that Dom0 last wrote into it (`mov $N, %eax; ret`).
"""

from __future__ import annotations

import os
import select
import struct
from collections.abc import Callable

import pytest

from tests.processor.conftest import Run
from tests.processor.kit.bench import Guest
from tests.processor.test_kicks import EVENTS
from xenion.vmm.guest_door import GuestDoor
from xenion.vmm.memory import PAGE_SIZE

REF = 9
COUNTS = [pytest.param(3000, id="short"), pytest.param(200_000, id="soak", marks=pytest.mark.slow)]
LEVELS = [pytest.param(False, id="kernel"), pytest.param(True, id="user")]

Writer = Callable[[int], None]


def grant_code(guest: Guest) -> None:
    at = guest.machine_address("number")
    guest.domain.grants.set(REF, 0, at // PAGE_SIZE)


def offset_of_code(guest: Guest) -> int:
    return guest.machine_address("number") % PAGE_SIZE


def mapped(guest: Guest) -> Writer:
    """As a disk's back end does."""
    door, index = GuestDoor(guest.domain), offset_of_code(guest) // 4
    page = door.map(REF, write=True)
    words = page.view.cast("I")

    def write(number: int) -> None:
        words[index] = number
        door.wrote([page])

    return write


def copied(guest: Guest) -> Writer:
    """As a network's does."""
    offset, door = offset_of_code(guest), GuestDoor(guest.domain)

    def write(number: int) -> None:
        assert door.copy_to([(REF, offset, struct.pack("<I", number))]) == [0]

    return write


WRITERS = {"mapped": mapped, "copied": copied}


def guest_code(user: bool, loop: str, function: str) -> str:
    """`told` is the word that Dom0 writes after the code, `seen` the guest's answer."""
    code, data, text = (".usmc", ".udata", ".user") if user else (".smc", ".data", ".text")
    return f"""
    .section {text}
    start: xor %ebx, %ebx
        {loop}
    bad: ud2
    .section {code}, "awx"
    .skip 3
    {function}
    .section {data}, "aw"
    .balign 8
    told: .quad 0
    seen: .quad 0
    """


FUNCTION = """
    function: .byte 0xb8        /* mov $N, %eax */
    number: .long 0
    ret
"""


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("user", LEVELS)
@pytest.mark.parametrize("way", WRITERS)
def test_code_is_new_when_the_guest_has_been_told(run: Run, way: str, user: bool, count: int) -> None:
    """Each number is awaited by the guest, called for, and answered."""
    loop = f"""
        mov $1, %r13d
    again: cmp told, %r13
        jne again
        call function
        cmp %rax, %r13
        jne bad
        mov %r13, seen
        inc %r13
        cmp ${count}, %r13
        jne again
        int3
    """

    def dom0(guest: Guest) -> None:
        write = WRITERS[way](guest)
        for number in range(1, count):
            write(number)
            guest.poke("told", number)
            while guest.u64("seen") < number and not guest.ended.is_set():
                pass

    out = run(
        guest_code(user, loop, FUNCTION),
        user=user,
        prepare=grant_code,
        beside=[dom0],
        seconds=60,
    )
    assert out.done, (out["r13"], out["rax"])
    assert out["r13"] == count


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("user", LEVELS)
@pytest.mark.parametrize("way", WRITERS)
def test_code_is_never_older_than_what_the_guest_was_told(run: Run, way: str, user: bool, count: int) -> None:
    """Dom0 writes without a pause while the guest executes, forgets and translates the very same page."""
    loop = f"""
    again: mov told, %r13
        call function
        cmp %r13, %rax
        jb bad
        inc %rbx
        mov %rbx, seen
        cmp ${count}, %r13
        jne again
        int3
    """

    def dom0(guest: Guest) -> None:
        write = WRITERS[way](guest)
        while not guest.u64("seen") and not guest.ended.is_set():  # it executes
            pass
        for number in range(1, count + 1):
            write(number)
            guest.poke("told", number)

    out = run(
        guest_code(user, loop, FUNCTION),
        user=user,
        prepare=grant_code,
        beside=[dom0],
        seconds=60,
    )
    assert out.done, (out["r13"], out["rax"])
    assert out["rbx"] > 1


def test_code_is_new_after_an_event_that_woke_the_guest(run: Run) -> None:
    """It sleeps while Dom0 writes; events stay masked, so that no upcall is made."""
    count = 1000
    source = f"""
    {EVENTS}
    .text
    start: STOP_PERIODIC
        mov $6, %edi            /* EVTCHNOP_alloc_unbound, for Dom0 */
        mov $alloc, %rsi
        HYPERCALL 32
        test %rax, %rax
        jnz bad
        movq $1, ready
        xor %r13d, %r13d
    again: movb $1, SHARED_INFO + 1
        cmp upcalls, %r13
        jne new
        BLOCK
        jmp again
    new: mov upcalls, %r13
        mov told, %r14
        call function
        cmp %r14, %rax
        jne bad
        cmp ${count}, %r14
        je finished
        mov $4, %edi            /* EVTCHNOP_send */
        mov $alloc + 4, %rsi
        HYPERCALL 32
        jmp again
    finished: int3
    bad: ud2
    .section .smc, "awx"
    .skip 3
    {FUNCTION}
    .data
    .balign 8
    told: .quad 0
    ready: .quad 0
    alloc: .short 0x7ff0, 0
        .long 0
    """
    told: list[int] = []

    def dom0(guest: Guest) -> None:
        door, write = GuestDoor(guest.domain), mapped(guest)
        while not guest.u64("ready") and not guest.ended.is_set():
            pass

        def on_event() -> None:
            told.append(len(told) + 1)
            write(told[-1])
            guest.poke("told", told[-1])
            port.notify()

        port = door.bind(guest.u64("alloc") >> 32, on_event)
        while not guest.ended.is_set():
            if select.select([guest.notify_fd], [], [], 0.2)[0]:
                os.eventfd_read(guest.notify_fd)
                guest.domain.events.dispatch()

    out = run(
        source,
        prepare=grant_code,
        beside=[dom0],
        handlers={"event": "upcall"},
        seconds=60,
    )
    assert out.done, (out["r14"], out["rax"])
    assert told == list(range(1, count + 1))
