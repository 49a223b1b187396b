"""The page that `syscall` leaves the hardware processor by is open to applications: using it otherwise is a fault."""

import pytest

from tests.processor.conftest import Run

EXIT_PAGE = "HOLE + (384 << 30) + 6 * 4096"
USER = ".section .user\nstart:"
ACCESSES = (
    "mov (%rbx), %eax",
    "mov (%rbx), %rax",
    "movb $1, (%rbx)",
    "mov %rcx, (%rbx)",
    "lock incl (%rbx)",
    "xchg %rax, (%rbx)",
    "movups %xmm0, (%rbx)",
    "movups (%rbx), %xmm0",
    "push (%rbx)",
    "mov %rcx, -4(%rbx)",
)


@pytest.fixture(autouse=True)
def _hardware_only(processor: str) -> None:
    if processor != "hardware":
        pytest.skip("there is no such page")


@pytest.mark.parametrize("access", ACCESSES)
def test_an_applications_access_is_a_page_fault(run: Run, access: str) -> None:
    """Its kernel gets control, in its own mode, and the application goes on with its own registers."""
    out = run(
        f"{USER} movabs ${EXIT_PAGE}, %rbx; mov $0x1234, %r12; mov $0x77, %ecx\nfault: {access}\nafter: inc %r12\nint3",
        user=True,
        resume={"fault": "after", "after": "after"},
    )
    assert out.done
    assert [trap.vector for trap in out.traps[:-1]] == [14]
    assert out.traps[0].in_user
    assert out.traps[0].cr2 >> 12 in (out.traps[0]["rbx"] >> 12, (out.traps[0]["rbx"] >> 12) - 1)
    assert (out["r12"], out["rcx"]) == (0x1235, 0x77)


@pytest.mark.parametrize(
    "access", ["vmovups %ymm0, (%rbx)", "vmovups (%rbx), %ymm0", "xsave (%rbx)", "fxsave (%rbx)"]
)
def test_what_kvm_cannot_do_for_it_is_the_applications_own_fault(run: Run, access: str) -> None:
    out = run(
        f"{USER} movabs ${EXIT_PAGE}, %rbx; mov $7, %eax; xor %edx, %edx\nfault: {access}\nafter: nop; int3",
        user=True,
        resume={"fault": "after", "after": "after"},
    )
    assert out.done
    assert [trap.vector in (6, 13, 14) and trap.in_user for trap in out.traps[:-1]] == [True]


@pytest.mark.parametrize("start", [0, 1])
def test_a_jump_to_the_way_in_is_a_system_call(run: Run, start: int) -> None:
    out = run(
        f"{USER} movabs $HOLE + (384 << 30) + 5 * 4096 + {start}, %rbx; lea back(%rip), %rcx; mov $2, %r11; jmp *%rbx\n"
        "back: nop; int3",
        user=True,
        resume={"back": "back"},
    )
    assert [trap.vector for trap in out.traps] == [258, 3]
    assert out.traps[0].rip == out.label("back")
    assert out.traps[0].in_user


def test_nothing_else_of_the_monitor_is_open(run: Run) -> None:
    pages = [n for n in range(9) if n not in (5, 6)]
    reads = "\n".join(
        f"movabs $HOLE + (384 << 30) + {n} * 4096, %rbx\nf{n}: mov (%rbx), %al\na{n}:" for n in pages
    )
    linear = "movabs $HOLE + (385 << 30), %rbx\nf9: mov %al, (%rbx)\na9:"
    code = "movabs $HOLE + (384 << 30) + 5 * 4096, %rbx\nf5: mov %al, (%rbx)\na5:"
    out = run(
        f"{USER} {reads}\n{linear}\n{code} int3",
        user=True,
        resume={f"f{n}": f"a{n}" for n in (*pages, 9, 5)},
    )
    assert out.done
    assert [trap.vector for trap in out.traps[:-1]] == [14] * 9
