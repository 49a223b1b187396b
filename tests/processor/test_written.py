"""What a guest writes while its memory is watched, on the processor that runs it."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.processor.conftest import Run
from tests.processor.kit.bench import Guest
from tests.write_watches import METHODS, open_watch
from xenion.vmm.memory import PAGE_SIZE
from xenion.vmm.written import WriteWatch, Written

LOOKING_SECONDS = 0.3
LEVELS = [pytest.param(False, id="kernel"), pytest.param(True, id="user")]


@pytest.fixture(params=METHODS)
def watch(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[WriteWatch]:
    opened = open_watch(request.param, monkeypatch)
    yield opened
    opened.close()


def found(guest: Guest, look: Written, region: str, pages: int) -> list[int]:
    """Which pages of a region were written."""
    first = guest.machine_address(region) // PAGE_SIZE
    frames = {mfn for start, count in look.collect() for mfn in range(start, start + count)}
    return [n for n in range(pages) if first + n in frames]


def test_pages_that_the_guest_writes(run: Run, watch: WriteWatch) -> None:
    """By a store, by one over a page's end, by a string instruction, by an atomic one; some twice, some never."""
    looks: list[list[int]] = []
    watched: list[Written] = []

    def start(guest: Guest) -> None:
        watched.append(watch.watch(guest.domain.memory))
        watched[0].start()

    def look(guest: Guest) -> None:
        looks.append(found(guest, watched[0], "SPARE", 8))

    source = """
    start: movq $1, SPARE
        movq $1, SPARE + 4096 * 2
        mov SPARE + 4096 * 3, %rax
        HOST 0                      /* start */
        HOST 1
        movq $2, SPARE
        movq $-1, SPARE + 4096 * 5 - 4
        HOST 1
        movq $3, SPARE
        mov $SPARE + 4096 * 2, %rdi
        mov $512, %ecx
        mov $7, %eax
        rep stosq
        lock incq SPARE + 4096 * 7
        mov SPARE + 4096 * 3, %rax
        HOST 1
        HOST 1
        int3
    """
    out = run(source, host=[start, look])
    watched[0].stop()
    assert out.done
    assert looks == [[], [0, 4, 5], [0, 2, 7], []]


@pytest.mark.parametrize("user", LEVELS)
def test_no_write_of_a_running_guest_is_lost(run: Run, watch: WriteWatch, user: bool) -> None:
    """It counts in each of four pages; what was copied last is how far it came."""
    region = "UDATA" if user else "DATA"
    source = f"""
    .section {".user" if user else ".text"}
    start: mov $1, %eax
    again: mov %rax, {region} + 4096
        mov %rax, {region} + 4096 * 2
        mov %rax, {region} + 4096 * 4
        mov %rax, {region} + 4096 * 7
        inc %rax
        cmpq $0, {region} + 64
        je again
        int3
    """
    copies: dict[int, int] = {}
    watched: list[Written] = []
    looks = 0

    def copy(guest: Guest) -> None:
        for n in found(guest, watched[0], region, 8):
            at = guest.machine_address(region) + n * PAGE_SIZE
            data = bytes(guest.domain.memory.bytes[at : at + PAGE_SIZE])
            watched[0].took(at // PAGE_SIZE, data)
            copies[n] = int.from_bytes(data[:8], "little")

    def beside(guest: Guest) -> None:
        nonlocal looks
        while not guest.u64(guest.label(region) + PAGE_SIZE):
            pass
        watched.append(watch.watch(guest.domain.memory))
        watched[0].start()
        until = time.monotonic() + LOOKING_SECONDS
        while time.monotonic() < until:
            copy(guest)
            looks += 1
        guest.poke(region_end(guest), 1)
        guest.ended.wait()
        copy(guest)
        watched[0].stop()

    def region_end(guest: Guest) -> int:
        return guest.label(region) + 64

    out = run(source, user=user, beside=[beside])
    assert out.done
    assert looks > 3
    last = out["rax"] - 1
    assert {n: copies[n] for n in (1, 2, 4, 7)} == dict.fromkeys((1, 2, 4, 7), last)
