"""The CPUID policy: what is advertised works, what is not raises #UD, and every level sees the same."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from tests.processor.conftest import Run
from tests.processor.kit.features import FEATURES, NOT_INSTRUCTIONS, UNADVERTISED
from xenion.processor import CpuidLeaf
from xenion.processor.choose import AUTOMATIC, features_of, open_processor
from xenion.vmm.cpuid import domain_leaves, lookup

USER = ".section .user\nstart:\n"

READ = """
    mov $leaves, %rsi
    mov $answers, %rdi
next: mov (%rsi), %eax
    mov 4(%rsi), %ecx
    cpuid
    mov %eax, (%rdi)
    mov %ebx, 4(%rdi)
    mov %ecx, 8(%rdi)
    mov %edx, 12(%rdi)
    add $16, %rdi
    add $8, %rsi
    cmp $answers, %rsi
    jne next
    int3
"""


def policy(processor: str) -> Sequence[CpuidLeaf]:
    return domain_leaves(open_processor(processor).features.cpuid)


def _register(processor: str, leaf: int, register: str) -> int:
    return lookup(policy(processor), leaf, 0)[("eax", "ebx", "ecx", "edx").index(register)]


def queries(leaves: Sequence[CpuidLeaf]) -> list[tuple[int, int]]:
    """Every leaf of the policy, its neighbours, and some that nobody has."""
    asked = {(r.leaf + near, r.subleaf or sub) for r in leaves for near in (0, 1) for sub in (0, 1)}
    return sorted(
        asked | {(0x20000000, 0), (0xFFFFFFFF, 0xFFFFFFFF), (0x40000100, 0), (7, 2), (0xD, 0), (0xD, 1)}
    )


@pytest.mark.limit("host_cpuid")
@pytest.mark.parametrize("user", [False, True], ids=["kernel", "user"])
def test_every_level_sees_the_policy(run: Run, processor: str, user: bool) -> None:
    leaves = policy(processor)
    asked = queries(leaves)
    data = "\n".join(f".long {leaf:#x}, {sub:#x}" for leaf, sub in asked)
    section = '.section .udata, "aw"' if user else ".data"
    source = f"start: {READ}\n{section}\nleaves: {data}\nanswers: .skip {16 * len(asked)}"
    out = run((".section .user\n" if user else "") + source, user=user)
    assert out.done
    raw = out.read("answers", 16 * len(asked))
    words = memoryview(raw).cast("I")
    seen = {query: tuple(words[4 * i : 4 * i + 4]) for i, query in enumerate(asked)}
    assert seen == {(leaf, sub): lookup(leaves, leaf, sub) for leaf, sub in asked}


def test_cpuid_clears_the_upper_halves(run: Run) -> None:
    high = "movabs $0xffffffff00000000, %rax; mov %rax, %rcx; mov %rax, %rbx; mov %rax, %rdx"
    out = run(f"{USER}{high}; cpuid; int3", user=True)
    assert [out[r] >> 32 for r in ("rax", "rbx", "rcx", "rdx")] == [0] * 4


# --- what is advertised


@pytest.mark.parametrize("name", [n for n, f in FEATURES.items() if f.code])
def test_an_advertised_feature_works(run: Run, processor: str, name: str) -> None:
    tested = FEATURES[name]
    leaf, register = tested.where
    if not _register(processor, leaf, register) >> tested.bit & 1:
        pytest.skip(f"{processor} does not advertise it")
    out = run(f"{USER}{tested.code}\nbad: xor %eax, %eax\nint3", user=True)
    assert out.done
    assert out["rax"] == 1


def test_every_advertised_bit_has_a_test(processor: str) -> None:
    """A feature that is switched on needs a row above, where what runs it is ours."""
    if processor == "hardware":
        pytest.skip("the host's processor runs them")
    for where, known in NOT_INSTRUCTIONS.items():
        tested = known | {f.bit for f in FEATURES.values() if f.where == where}
        shown = _register(processor, *where)
        assert {bit for bit in range(32) if shown >> bit & 1} <= tested, where


def test_aes_gives_the_standards_answer(run: Run) -> None:
    """FIPS 197's example of one encryption, with its expanded key made by aeskeygenassist."""
    key, plain = bytes(range(16)), bytes(i * 0x11 for i in range(16))
    expand = ""
    for i, rcon in enumerate((1, 2, 4, 8, 16, 32, 64, 128, 0x1B, 0x36)):
        expand += f"aeskeygenassist ${rcon}, %xmm1, %xmm2\ncall expand\n"
        expand += ("aesenclast" if i == 9 else "aesenc") + " %xmm1, %xmm0\n"
    source = f"""{USER}
        movups key, %xmm1
        movups plain, %xmm0
        pxor %xmm1, %xmm0
        {expand}
        movups %xmm0, plain
        int3
    expand: pshufd $0xff, %xmm2, %xmm2
        movdqa %xmm1, %xmm3
        pslldq $4, %xmm3
        pxor %xmm3, %xmm1
        pslldq $4, %xmm3
        pxor %xmm3, %xmm1
        pslldq $4, %xmm3
        pxor %xmm3, %xmm1
        pxor %xmm2, %xmm1
        ret
    .section .udata, "aw"
    key: .byte {", ".join(map(str, key))}
    plain: .byte {", ".join(map(str, plain))}
    """
    assert run(source, user=True).read("plain", 16).hex() == "69c4e0d86a7b0430d8cdb78070b4c55a"


def test_rdrand_differs(run: Run) -> None:
    """From call to call, and from domain to domain."""
    source = USER + "mov $64, %ecx; mov $UDATA, %rdi; again: rdrand %rax; jnc again; stosq; loop again; int3"
    first = run(source, user=True).words(0x410000, 64)
    second = run(source, user=True).words(0x410000, 64)
    assert len({*first, *second}) == 128


def untemper(word: int) -> int:
    """The state word of a Mersenne twister behind one of its 32-bit outputs."""
    word ^= word >> 18
    word ^= word << 15 & 0xEFC60000
    left = word
    for _ in range(4):
        left = word ^ (left << 7 & 0x9D2C5680)
    right = left
    for _ in range(2):
        right = left ^ right >> 11
    return right


def follows(state: Sequence[int], n: int) -> bool:
    """Is the word 624 places after number `n` what a Mersenne twister makes of those before it?"""
    mixed = state[n] & 0x80000000 | state[n + 1] & 0x7FFFFFFF
    return state[n + 624] == state[n + 397] ^ mixed >> 1 ^ (0x9908B0DF if mixed & 1 else 0)


def test_the_twister_is_recognised() -> None:
    """Python's own generator is one."""
    generator = random.Random(1)
    state = [untemper(generator.getrandbits(32)) for _ in range(700)]
    assert all(follows(state, n) for n in range(70))


def test_rdrand_cannot_be_predicted(run: Run) -> None:
    """The engine's own generator is a Mersenne twister: who has seen 624 words of it knows the rest."""
    source = (
        f"{USER} mov $350, %ecx; mov $UDATA, %rdi; again: rdrand %rax; jnc again; stosq; loop again; int3"
    )
    out = run(source, user=True)
    state = [untemper(word) for word in memoryview(out.read(out.label("UDATA"), 2800)).cast("I")]
    assert not any(follows(state, n) for n in range(70))


@pytest.mark.parametrize("size", ["ax", "eax", "rax"])
def test_rdrand_sets_flags(run: Run, size: str) -> None:
    """Carry, and no other of the arithmetic flags."""
    out = run(f"{USER} mov $0xd5, %eax; mov %al, %ah; sahf; rdrand %{size}; int3", user=True)
    assert out.end.rflags & 0x8D5 == 1


# --- what is not advertised

RUN_ANYWAY = (
    dict.fromkeys(["avx_128", "avx_128_move", "vzeroupper"], "vex")
    | dict.fromkeys(["rdtscp", "rdseed", "adx", "clflushopt", "clwb", "rtm"], "hidden_features")
    | dict.fromkeys(["sse4a", "waitpkg"], "hidden_encodings")
    | dict.fromkeys(["xop", "tbm"], "xop")
)
"""Feature -> the row of the table of limits that it belongs to."""


UNADVERTISED_ROWS = [
    pytest.param(n, marks=pytest.mark.limit(RUN_ANYWAY[n])) if n in RUN_ANYWAY else n for n in UNADVERTISED
]


@pytest.mark.limit("host_features")
@pytest.mark.parametrize("name", UNADVERTISED_ROWS)
def test_what_is_not_advertised_is_undefined(run: Run, name: str) -> None:
    source = f"{USER} mov $UDATA, %rax; xor %ecx, %ecx; xor %edx, %edx\nfault: {UNADVERTISED[name]}\nint3"
    out = run(source, user=True)
    assert (out.end.fault, out.end.rip) == ((6, None), out.label("fault"))


def test_sysenter_leads_nowhere(run: Run) -> None:
    """It is not advertised, and whatever raises the fault, the hypervisor is not entered by it."""
    out = run(f"{USER}fault: sysenter; int3", user=True)
    assert out.end.fault in ((6, None), (13, 0))
    assert out.end.rip == out.label("fault")


def test_what_is_told_without_one(processor: str) -> None:
    """For a domain that could come from another host."""
    assert features_of(processor) == open_processor(processor).features
    assert features_of("auto") == features_of(AUTOMATIC)
