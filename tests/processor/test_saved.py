"""A vCPU that is saved in the middle of its work goes on in another domain: its registers, its time, its timers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import msgspec
import pytest

from tests.processor.kit.bench import BREAKPOINT, Bench
from xenion.core import lib
from xenion.processor.choose import open_processor
from xenion.processor.hardware import is_software_kvm
from xenion.processor.hardware.cpuid import xcr0_of
from xenion.vmm.domain import Domain
from xenion.vmm.saved import DomainState, capture, memory_runs, prepare, resume

MakeBench = Callable[..., AbstractContextManager[Bench]]


def hold(domain: Domain) -> None:
    domain.pause()
    while not domain.parked:
        time.sleep(0.001)


def saved(domain: Domain) -> tuple[bytes, dict[int, bytes]]:
    """Its state as it goes into a file, and its pages."""
    state = capture(domain)
    runs = memory_runs(domain, state)
    pages = {mfn: bytes(domain.memory.page(mfn)) for first, n in runs for mfn in range(first, first + n)}
    return msgspec.json.encode(state), pages


def restored(data: bytes, pages: dict[int, bytes], notify_fd: int) -> Domain:
    state = msgspec.json.decode(data, type=DomainState)
    domain = Domain(
        open_processor(state.processor), domid=1, nr_pages=0, most_pages=state.most_pages, handle=bytes(16),
        notify_fd=notify_fd, console_output=lambda data: None, nr_vcpus=len(state.vcpus),
    )  # fmt: skip
    try:
        prepare(domain, state)
        for mfn, page in pages.items():
            domain.memory.page(mfn)[:] = page
        resume(domain, state)
    except BaseException:
        domain.close()
        raise
    return domain


def run_with_moves(bench: Bench, moves: int) -> None:
    """To its end; it is moved to another domain so many times, each a while after the last."""
    bench.boot()
    for _ in range(moves):
        thread = threading.Thread(target=bench.domain.run)
        thread.start()
        getting_on(bench)
        hold(bench.domain)
        state = saved(bench.domain)
        bench.domain.stop()
        thread.join()
        go_on(bench, state)
    watchdog = threading.Timer(20, bench.domain.stop)
    watchdog.start()
    bench.domain.run()
    watchdog.cancel()


def getting_on(bench: Bench) -> None:
    """Anywhere in its work, but further than it was."""
    at = bench.guest.label("UDATA") + 16
    before = bench.guest.u64(at)
    while bench.guest.u64(at) == before:
        pass


def go_on(bench: Bench, state: tuple[bytes, dict[int, bytes]]) -> None:
    """In a new domain."""
    old, new = bench.domain, restored(*state, bench.notify_fd)
    new.handlers = old.handlers
    bench.domain = bench.guest.domain = new
    old.close()


WORK = """
    .section .user
    start: fninit
        fld1
        fldpi
        mov $0x3fff0000, %eax
        mov %eax, UDATA
        movl $0x1fa0, UDATA + 8
        ldmxcsr UDATA + 8
        mov $0x1234, %eax
        movq %rax, %xmm15
        pxor %xmm0, %xmm0
        pcmpeqd %xmm1, %xmm1
        mov $ROUNDS, %r13
        xor %ebx, %ebx
        mov $0x77, %r8d
        std
    again: paddq %xmm1, %xmm0
        add %r13, %rbx
        rol $3, %rbx
        incq UDATA + 16
        dec %r13
        jnz again
        fstpt UDATA + 32
        fstpl UDATA + 48
        stmxcsr UDATA + 56
        movq %xmm15, %r14
        movq %xmm0, %r15
        pushf
        pop %r12
        int3
"""


EXTENDED = """
    .section .user
    start: mov $0x1111111111111111, %rax
        movq %rax, %xmm3
        vinsertf128 $1, %xmm3, %ymm3, %ymm3
        vpermilpd $0, %ymm3, %ymm3
        MORE
        mov $ROUNDS, %r13
    again: incq UDATA + 16
        dec %r13
        jnz again
        vmovups %ymm3, UDATA + 32
        STORE
        int3
"""
YMM, ZMM = 0b100, 0b11100000
ROUNDS = 40_000_000


@pytest.mark.parametrize("moves", [0, 1, 4])
def test_registers(bench: MakeBench, moves: int) -> None:
    with bench(WORK.replace("ROUNDS", str(ROUNDS)), user=True) as made:
        run_with_moves(made, moves)
        end, udata = made.guest.traps[-1], made.guest.read("UDATA", 64)
    assert end.vector == BREAKPOINT
    assert end["r12"] & 0x400, "the direction flag"
    assert (end["r15"], end["r14"], end["r8"]) == (-ROUNDS & (1 << 64) - 1, 0x1234, 0x77)
    assert end["rbx"] == 5270498306819245674, "what it is without moves"
    assert int.from_bytes(udata[16:24], "little") == ROUNDS
    assert udata[32:42] == bytes.fromhex("35c26821a2da0fc90040"), "pi"
    assert udata[48:56] == bytes.fromhex("000000000000f03f"), "one"
    assert int.from_bytes(udata[56:60], "little") & ~0x3F == 0x1F80


@pytest.mark.parametrize(
    ("states", "more", "store"),
    [
        pytest.param(YMM, "", "", id="ymm"),
        pytest.param(
            ZMM,
            "kxnorw %k2, %k2, %k2; vpbroadcastq %rax, %zmm29",
            "kmovw %k2, UDATA + 24; vmovups %zmm29, UDATA + 64",
            id="zmm",
        ),
    ],
)
def test_extended_states(bench: MakeBench, processor: str, states: int, more: str, store: str) -> None:
    """Registers wider than FXSAVE knows of, where the processor has them."""
    if xcr0_of(open_processor(processor).features.cpuid) & states != states:
        pytest.skip("they are not offered here")
    source = EXTENDED.replace("ROUNDS", str(ROUNDS)).replace("MORE", more).replace("STORE", store)
    with bench(source, user=True) as made:
        run_with_moves(made, 3)
        vector, udata = made.guest.traps[-1].vector, made.guest.read("UDATA", 128)
    assert vector == BREAKPOINT
    assert udata[32:64] == b"\x11" * 32
    if store:
        assert (udata[24:26], udata[64:128]) == (b"\xff\xff", b"\x11" * 64)


def test_the_states_that_a_kernel_has_chosen(bench: MakeBench, processor: str) -> None:
    """XCR0, which an application reads."""
    if not xcr0_of(open_processor(processor).features.cpuid):
        pytest.skip("it has no extended states")
    source = """
        start: xor %ecx, %ecx
            xor %edx, %edx
            mov $3, %eax
            xsetbv
            mov $ROUNDS, %r13
        again: incq UDATA + 16
            dec %r13
            jnz again
            xor %ecx, %ecx
            xgetbv
            int3
    """
    with bench(source.replace("ROUNDS", str(ROUNDS))) as made:
        run_with_moves(made, 2)
        end = made.guest.traps[-1]
    host = lib.hardware_own_xcr0() if is_software_kvm() else 3
    assert (end.vector, end["rax"]) == (BREAKPOINT, host)
