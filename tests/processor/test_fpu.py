"""x87, MMX and SSE state: arithmetic, control words, saving and restoring, #NM for a kernel that switches lazily."""

from __future__ import annotations

import struct

import pytest

from tests.processor.conftest import Run

USER = ".section .user\nstart:\n"


def test_the_state_that_a_domain_starts_with(run: Run) -> None:
    out = run(USER + "fxsave64 UDATA; int3", user=True)
    control, status = struct.unpack_from("<HH", out.read(out.label("UDATA"), 512))
    (mxcsr,) = struct.unpack_from("<I", out.read(out.label("UDATA") + 24, 4))
    assert (control, status, mxcsr) == (0x37F, 0, 0x1F80)


def test_x87_arithmetic(run: Run) -> None:
    """In 80 bits: pi to full precision, a square root, a stack that wraps."""
    out = run(
        USER + "fldpi; fstpt UDATA; fld1; fld1; faddp; fsqrt; fstpt UDATA + 16; fnstsw %ax; int3", user=True
    )
    assert out.read(out.label("UDATA"), 10).hex() == "35c26821a2da0fc90040"
    assert out.read(out.label("UDATA") + 16, 10).hex() == "84 64 de f9 33 f3 04 b5 ff 3f".replace(" ", "")
    assert out["rax"] & 0x3800 == 0


@pytest.mark.parametrize(("rounding", "expected"), [(0, 2), (1, 2), (2, 3), (3, 2)])
def test_rounding_modes(run: Run, rounding: int, expected: int) -> None:
    """2.5 to an integer by x87 and by SSE."""
    source = f"""{USER}
        movw ${0x37F | rounding << 10:#x}, UDATA
        fldcw UDATA
        movl ${0x1F80 | rounding << 13:#x}, UDATA + 4
        ldmxcsr UDATA + 4
        movl $0x40200000, UDATA + 8
        flds UDATA + 8
        fistpl UDATA + 12
        mov UDATA + 12, %eax
        movss UDATA + 8, %xmm0
        cvtss2si %xmm0, %ebx
        int3"""
    out = run(source, user=True)
    assert (out["rax"], out["rbx"]) == (expected, expected)


def test_x87_exception_flags(run: Run) -> None:
    """A division by zero is noted and, masked, does nothing else."""
    out = run(f"{USER} fld1; fldz; fdivrp; fnstsw %ax; int3", user=True)
    assert out["rax"] & 0x3F == 4


@pytest.mark.limit("mxcsr_flags")
@pytest.mark.parametrize(
    ("code", "flag"),
    [("divss %xmm0, %xmm0", 1), ("divss %xmm0, %xmm2", 4), ("sqrtss %xmm2, %xmm2", 0x20)],
)
def test_sse_exception_flags(run: Run, code: str, flag: int) -> None:
    before = "pxor %xmm0, %xmm0; movl $0x40400000, UDATA; movss UDATA, %xmm2"
    assert (
        run(f"{USER}{before}; {code}; stmxcsr UDATA; mov UDATA, %eax; int3", user=True)["rax"] & 0x3F == flag
    )


@pytest.mark.parametrize(
    ("code", "vector"),
    [
        pytest.param("movw $0x37b, UDATA; fldcw UDATA; fld1; fldz; fdivrp; fault: fwait", 16, id="x87"),
        pytest.param(
            "movl $0x1d80, UDATA; ldmxcsr UDATA; pxor %xmm0, %xmm0; mov $1, %eax; cvtsi2ss %eax, %xmm1; "
            "fault: divss %xmm0, %xmm1",
            19,
            id="sse",
            marks=pytest.mark.limit("simd_faults"),
        ),
    ],
)
def test_unmasked_exceptions(run: Run, code: str, vector: int) -> None:
    """Here of a division by zero."""
    out = run(f"{USER}{code.replace('; ', chr(10))}; int3", user=True)
    assert (out.end.fault, out.end.rip) == ((vector, None), out.label("fault"))


@pytest.mark.limit("misaligned")
@pytest.mark.parametrize(
    "code",
    [
        "movaps UDATA + 8, %xmm0",
        "movdqa %xmm0, UDATA + 4",
        pytest.param("addps UDATA + 1, %xmm0", marks=pytest.mark.limit("misaligned_sse")),
    ],
)
def test_misaligned_operands(run: Run, code: str) -> None:
    out = run(f"{USER} fault: {code}; int3", user=True)
    assert (out.end.fault, out.end.rip) == ((13, 0), out.label("fault"))


@pytest.mark.limit("alignment_check")
def test_alignment_check(run: Run) -> None:
    out = run(f"{USER} pushf; orq $0x40000, (%rsp); popf; fault: mov UDATA + 1, %eax; int3", user=True)
    assert (out.end.fault, out.end.rip) == ((17, 0), out.label("fault"))


def test_save_and_restore(run: Run) -> None:
    """Everything that fxsave writes comes back by fxrstor after all of it has changed."""
    fill = "\n".join(
        f"mov ${n * 0x11111111:#x}, %eax; movd %eax, %xmm{n}; pshufd $0, %xmm{n}, %xmm{n}" for n in range(16)
    )
    source = f"""{USER}
        fldpi
        fld1
        movw $0x27f, UDATA + 1536
        fldcw UDATA + 1536
        movl $0x5f80, UDATA + 1540
        ldmxcsr UDATA + 1540
        {fill}
        fxsave64 UDATA
        fninit
        movl $0x1f80, UDATA + 1540
        ldmxcsr UDATA + 1540
        {"".join(f"pxor %xmm{n}, %xmm{n}" + chr(10) for n in range(16))}
        fxrstor64 UDATA
        fxsave64 UDATA + 512
        fstpt UDATA + 1024
        fstpt UDATA + 1040
        int3"""
    out = run(source, user=True)
    assert out.done
    first, second = out.read(out.label("UDATA"), 416), out.read(out.label("UDATA") + 512, 416)
    pointers = slice(8, 24)  # of the last x87 instruction: kept only while an exception is pending
    assert (
        first[: pointers.start] + first[pointers.stop :] == second[: pointers.start] + second[pointers.stop :]
    )
    assert first[160 + 15 * 16 : 160 + 16 * 16] == (0xFFFFFFFF).to_bytes(4, "little") * 4
    assert out.read(out.label("UDATA") + 1040, 10).hex() == "35c26821a2da0fc90040"


def test_traps_keep_the_state(run: Run) -> None:
    """A system call and a page fault in between change no vector register: the hypervisor uses none of the guest's."""
    source = f"""{USER}
        mov $0x12345678, %eax
        {"".join(f"movd %eax, %xmm{n}" + chr(10) for n in range(16))}
        fldpi
        mov $1, %ecx
    f0: mov UNOWHERE, %ebx
    a0: ud2
    a1: fxsave64 UDATA
        int3"""
    out = run(source, user=True, resume={"f0": "a0", "a0": "a1"})
    assert out.done
    saved = out.read(out.label("UDATA"), 416)
    assert all(saved[160 + 16 * n : 164 + 16 * n] == bytes.fromhex("78563412") for n in range(16))
    assert saved[32:42].hex() == "35c26821a2da0fc90040"


@pytest.mark.limit("lazy_fpu")
@pytest.mark.parametrize(
    "code", ["fld1", "movups %xmm0, %xmm1", "movq %mm0, %mm1", "fxsave64 UDATA", "ldmxcsr UDATA"]
)
def test_a_lazy_kernel_is_told_of_the_first_use(run: Run, code: str) -> None:
    """After fpu_taskswitch: #NM once, at the instruction; the hypervisor then lets it go on."""
    source = f"""
    start: mov $1, %edi
        HYPERCALL 5
        movl $0x1f80, UDATA
        pushq $0xe02b
        pushq $USTACK + 0x4000
        pushq $0x202
        pushq $0xe033
        pushq $user
        pushq $0
        pushq $0
        pushq $0
        pushq $0
        mov $23, %eax
        syscall
    .section .user
    user: {code}
    after: {code}
        int3"""
    out = run(source, resume={"user": "user"})
    assert out.done
    assert out.faults == [(7, None)]
    assert out.traps[0].rip == out.label("user")


MMX = USER + "mov $0x55, %eax; movd %eax, %mm3; fxsave64 UDATA; emms; fxsave64 UDATA + 512; int3"


def test_mmx_shares_the_x87_registers(run: Run) -> None:
    """MM3 is the third register of the x87's, all of which are in use until `emms`."""
    out = run(MMX, user=True)
    assert out.read(out.label("UDATA") + 32 + 48, 8) == bytes([0x55, *bytes(7)])
    assert (out.read(out.label("UDATA") + 4, 1), out.read(out.label("UDATA") + 516, 1)) == (b"\xff", b"\0")


@pytest.mark.limit("mmx_exponent")
def test_mmx_fills_the_exponent(run: Run) -> None:
    out = run(MMX, user=True)
    assert out.read(out.label("UDATA") + 32 + 48 + 8, 2) == b"\xff\xff"
