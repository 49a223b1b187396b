"""Pauses and NMIs from other threads: a held guest does nothing at all, and goes on where it was."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable

import pytest

from tests.processor.conftest import Run
from tests.processor.kit.bench import Guest
from xenion.vmm.events import PortState

LEVELS = [pytest.param(False, id="kernel"), pytest.param(True, id="user")]
PORT = 1
"""The first port that a domain hands out."""
LONG_NS = 20_000_000
"""A guest that is not held counts far in this time."""
PATIENCE_SECONDS = 10

HANDLERS = """
    .text
    upcall: movb $0, SHARED_INFO
        movq $0, SHARED_INFO+8      /* the selector, and the port's pending bit: the next event is another upcall */
        movq $0, SHARED_INFO+2048
        incq upcalls
        HIRET
    nmi: incq nmis
        HIRET
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
    nmis: .quad 0
    .text
"""

BLOCKED = f"""
    {HANDLERS}
    start: STOP_PERIODIC
    again: BLOCK
        incq count
        cmpq $0, stop
        je again
        int3
    .data
    count: .quad 0
    stop: .quad 0
"""


def spinning(user: bool) -> str:
    """Counts until `stop` is set."""
    return f"""
    {HANDLERS}
    {".section .user" if user else ".text"}
    start: incq count
        cmpq $0, stop
        je start
        int3
    {'.section .udata, "aw"' if user else ".data"}
    .balign 8
    count: .quad 0
    stop: .quad 0
    """


def until(guest: Guest, condition: Callable[[], bool]) -> None:
    while not condition():
        assert not guest.ended.is_set(), "the guest has ended"


def wait_until_parked(guest: Guest) -> None:
    """As Dom0 does: it sleeps until it is notified."""
    while not guest.domain.parked:
        assert select.select([guest.notify_fd], [], [], PATIENCE_SECONDS)[0], "nobody told Dom0"
        os.eventfd_read(guest.notify_fd)


def park(guest: Guest) -> None:
    guest.domain.pause()
    wait_until_parked(guest)


def end(guest: Guest) -> None:
    """Also of a test that has failed."""
    guest.poke("stop", 1)
    guest.domain.unpause()
    guest.domain.events.notify(PORT)


def beside(act: Callable[[Guest], None], failures: list[BaseException]) -> Callable[[Guest], None]:
    """In a thread of its own; what fails in it fails the test."""

    def run(guest: Guest) -> None:
        try:
            act(guest)
        except BaseException as error:  # noqa: BLE001  raised again by `play`
            failures.append(error)
        finally:
            end(guest)

    return run


def bind_port(guest: Guest) -> None:
    assert guest.domain.events.allocate(PortState.INTERDOMAIN) == PORT


def play(
    run: Run,
    source: str,
    act: Callable[[Guest], None],
    *,
    user: bool = False,
    masked: bool = True,
    prepare: Callable[[Guest], None] = bind_port,
    seconds: float = 30,
) -> bool:
    """Runs the guest with `act` beside it: did it come to its end?"""
    failures: list[BaseException] = []
    out = run(
        source, user=user, masked=masked, prepare=prepare, beside=[beside(act, failures)],
        handlers={"event": "upcall", 2: "nmi"}, seconds=seconds,
    )  # fmt: skip
    if failures:
        raise failures[0]
    return bool(out.traps) and out.done


def stands_still(guest: Guest, ns: int = LONG_NS) -> bool:
    """While the guest's time goes on."""
    count, now = guest.u64("count"), guest.domain.system_time()
    until(guest, lambda: guest.domain.system_time() > now + ns)
    return guest.u64("count") == count


def moves(guest: Guest) -> None:
    count = guest.u64("count")
    until(guest, lambda: guest.u64("count") > count)


# --- pausing


@pytest.mark.parametrize("user", LEVELS)
def test_a_busy_guest_stands_still(run: Run, user: bool) -> None:
    def act(guest: Guest) -> None:
        domain = guest.domain
        moves(guest)
        assert (domain.paused, domain.parked, domain.vcpu_states()) == (False, False, ["running"])
        park(guest)
        assert (domain.paused, domain.vcpu_states()) == (True, ["offline"])
        used = domain.cpu_seconds
        assert stands_still(guest)
        assert domain.cpu_seconds - used < LONG_NS / 2e9
        domain.unpause()
        moves(guest)
        assert (domain.paused, domain.parked, domain.vcpu_states()) == (False, False, ["running"])
        assert domain.cpu_seconds > used

    assert play(run, spinning(user), act, user=user)


@pytest.mark.parametrize("rounds", [300, pytest.param(20_000, marks=pytest.mark.slow)])
def test_parked_is_never_a_promise_that_is_not_kept(run: Run, rounds: int) -> None:
    """The next pause comes at every moment of the way out of the last one; and no wake-up is lost on that way."""

    def act(guest: Guest) -> None:
        for n in range(rounds):
            park(guest)
            assert stands_still(guest, 20_000)
            guest.domain.unpause()
            for _ in range(n % 50 * 4):
                pass
            if n % 3 == 0:
                moves(guest)

    assert play(run, spinning(user=False), act, seconds=30 + rounds / 100)


def test_a_guest_that_is_paused_before_it_runs(run: Run) -> None:
    """Not one instruction of it is executed."""

    def prepare(guest: Guest) -> None:
        bind_port(guest)
        guest.domain.pause()
        assert (guest.domain.parked, guest.domain.vcpu_states()) == (True, ["offline"])
        assert guest.domain.cpu_seconds == 0

    def act(guest: Guest) -> None:
        assert select.select([guest.notify_fd], [], [], PATIENCE_SECONDS)[0]
        assert guest.domain.parked
        assert stands_still(guest)
        assert guest.vcpu.state.call_count == 0
        guest.domain.unpause()
        moves(guest)

    assert play(run, spinning(user=False), act, prepare=prepare)


def test_events_reach_a_blocked_guest_after_the_pause(run: Run) -> None:
    def act(guest: Guest) -> None:
        until(guest, lambda: guest.domain.vcpu_states() == ["blocked"])
        park(guest)
        assert guest.domain.vcpu_states() == ["offline"]
        guest.domain.events.notify(PORT)
        assert stands_still(guest)
        assert guest.u64("upcalls") == 0
        guest.domain.unpause()
        until(guest, lambda: guest.u64("upcalls") == 1)

    assert play(run, BLOCKED, act)


def test_a_blocked_guest_still_waits_after_a_pause(run: Run) -> None:
    def act(guest: Guest) -> None:
        until(guest, lambda: guest.domain.vcpu_states() == ["blocked"])
        park(guest)
        guest.domain.unpause()
        until(guest, lambda: guest.domain.vcpu_states() == ["blocked"])
        assert guest.u64("count") == 0

    assert play(run, BLOCKED, act)


@pytest.mark.parametrize("source", [spinning(user=False), BLOCKED], ids=["busy", "blocked"])
def test_a_stop_ends_a_pause(run: Run, source: str) -> None:
    ended: list[bool] = []

    def act(guest: Guest) -> None:
        park(guest)
        guest.domain.stop()
        ended.append(guest.ended.wait(PATIENCE_SECONDS))
        assert guest.domain.paused

    assert not play(run, source, act)
    assert ended == [True]


def test_what_the_guest_has_used_is_known_after_its_end(run: Run) -> None:
    """And outside `run`, where it is parked whether it is paused or not."""
    seen: list[Guest] = []
    used: list[float] = []

    def act(guest: Guest) -> None:
        seen.append(guest)
        until(guest, lambda: guest.domain.cpu_seconds > 0.01)
        used.append(guest.domain.cpu_seconds)

    assert play(run, spinning(user=False), act)
    domain = seen[0].domain
    assert domain.cpu_seconds >= used[0]
    assert (domain.parked, domain.vcpu_states()) == (True, ["offline"])


# --- NMIs


def send_nmis(guest: Guest) -> None:
    """Each as soon as the last one is handled."""
    for number in range(1, 50):
        guest.domain.send_nmi(0)
        until(guest, lambda number=number: guest.u64("nmis") == number)  # type: ignore[misc]


@pytest.mark.parametrize("user", LEVELS)
def test_an_nmi_reaches_a_busy_guest(run: Run, user: bool) -> None:
    """Though it masks its events."""

    def act(guest: Guest) -> None:
        moves(guest)  # it has said where its handler is
        send_nmis(guest)

    assert play(run, spinning(user), act, user=user, masked=not user)


def test_an_nmi_wakes_a_blocked_guest(run: Run) -> None:
    def act(guest: Guest) -> None:
        until(guest, lambda: guest.domain.vcpu_states() == ["blocked"])
        send_nmis(guest)

    assert play(run, BLOCKED, act)


def test_an_nmi_of_a_paused_guest_comes_after_the_pause(run: Run) -> None:
    def act(guest: Guest) -> None:
        moves(guest)
        park(guest)
        for _ in range(3):
            guest.domain.send_nmi(0)
        assert stands_still(guest)
        assert guest.u64("nmis") == 0
        guest.domain.unpause()
        until(guest, lambda: guest.u64("nmis") == 1)

    assert play(run, spinning(user=False), act)


def test_threads_that_pause_and_unpause_at_once(run: Run) -> None:
    """Whatever they do to each other, the guest goes on after the last unpause."""

    def flip(guest: Guest) -> None:
        for _ in range(500):
            guest.domain.pause()
            guest.domain.unpause()

    def act(guest: Guest) -> None:
        threads = [threading.Thread(target=flip, args=[guest]) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        moves(guest)

    assert play(run, spinning(user=False), act)
