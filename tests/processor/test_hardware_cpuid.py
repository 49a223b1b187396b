"""What the hardware processor shows of its host's CPUID: only what the host has and ring 3 can use."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenion.processor import CpuidLeaf, ProcessorError, hardware
from xenion.processor.hardware.cpuid import OSXSAVE, STATES, XSAVE, policy, xcr0_of
from xenion.vmm.cpuid import lookup

HYPERVISOR = 1 << 31
ONLY_ALL = 0xFFFFFFFF
words = st.integers(0, ONLY_ALL)
PLAIN = (0, 1, 2, 5, 6, 0xA, 0xB, 0x15, 0x80000000, 0x80000001, 0x80000002, 0x80000007, 0x80000008)
NUMBERS: list[tuple[int, int | None]] = [(n, None) for n in PLAIN]
NUMBERS += [(7, 0), (7, 1), *((13, n) for n in (0, 1, 2, 3, 5, 6, 7, 9, 17, 18))]
hosts = st.tuples(
    *(st.builds(CpuidLeaf, st.just(n), st.just(s), words, words, words, words) for n, s in NUMBERS)
)

FORBIDDEN = {
    (1, 0, "ecx"): {"MONITOR": 3, "VMX": 5, "PCID": 17, "x2APIC": 21, "TSC deadline": 24},
    (1, 0, "edx"): {"PSE": 3, "APIC": 9, "SEP": 11, "MTRR": 12, "PGE": 13},
    (7, 0, "ebx"): {"FSGSBASE": 0, "SMEP": 7, "INVPCID": 10, "SMAP": 20},
    (7, 0, "ecx"): {"UMIP": 2, "PKU": 3, "LA57": 16},
    (13, 1, "eax"): {"XSAVES": 3},
    (0x80000001, 0, "ecx"): {"SVM": 2},
    (0x80000001, 0, "edx"): {"pages of 1 GiB": 26, "RDTSCP": 27},
}


def register(leaves: tuple[CpuidLeaf, ...], leaf: int, subleaf: int, name: str) -> int:
    return lookup(leaves, leaf, subleaf)[("eax", "ebx", "ecx", "edx").index(name)]


@given(host=hosts)
def test_nothing_that_the_host_has_not(host: tuple[CpuidLeaf, ...]) -> None:
    shown = policy(host)
    for leaf, subleaf, name in (
        (1, 0, "edx"),
        (7, 0, "ebx"),
        (7, 0, "ecx"),
        (7, 0, "edx"),
        (0x80000001, 0, "ecx"),
    ):
        assert not register(shown, leaf, subleaf, name) & ~register(host, leaf, subleaf, name)
    assert not register(shown, 1, 0, "ecx") & ~register(host, 1, 0, "ecx") & ~(HYPERVISOR | OSXSAVE)
    assert {row.leaf for row in shown} <= {row.leaf for row in host}


@given(host=hosts)
def test_nothing_that_needs_ring_0(host: tuple[CpuidLeaf, ...]) -> None:
    shown = policy(host)
    for (leaf, subleaf, name), bits in FORBIDDEN.items():
        value = register(shown, leaf, subleaf, name)
        assert [feature for feature, bit in bits.items() if value >> bit & 1] == []
    assert register(shown, 1, 0, "ecx") & HYPERVISOR


@given(host=hosts)
def test_extended_states(host: tuple[CpuidLeaf, ...]) -> None:
    shown = policy(host)
    has = bool(register(host, 1, 0, "ecx") & XSAVE)
    assert bool(register(shown, 1, 0, "ecx") & OSXSAVE) == has
    states = xcr0_of(shown)
    assert states == (register(host, 13, 0, "eax") & STATES if has else 0)
    assert {row.subleaf for row in shown if row.leaf == 13} <= {0, 1, 2, 5, 6, 7}


def test_states_that_are_not_switched_on_are_not_shown() -> None:
    states = [CpuidLeaf(13, n, 64, 576 + 64 * n, 0, 0) for n in (2, 5, 6, 7)]
    shown = policy(
        [CpuidLeaf(1, None, 0, 0, XSAVE, 0), CpuidLeaf(13, 0, 0xE7, 0, 2432, 0), *states], states=0b111
    )
    assert xcr0_of(shown) == 0b111
    assert [row.subleaf for row in shown if row.leaf == 13] == [0, 2]


def test_a_host_without_kvm_is_refused_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(hardware, "KVM", tmp_path / "kvm")
    monkeypatch.setattr(hardware, "_device", hardware._device.__wrapped__)
    monkeypatch.setattr(hardware, "_leaves", hardware._leaves.__wrapped__)
    monkeypatch.setattr(hardware, "is_software_kvm", lambda: False)
    with pytest.raises(ProcessorError) as caught:
        hardware.HardwareProcessor()
    assert str(caught.value) == (
        f"the hardware processor cannot be used: {tmp_path}/kvm: No such file or directory; "
        "give this user access to it, or use the software processor"
    )


def test_sizes_of_the_area_that_saves_them() -> None:
    """A processor with AVX and AVX-512, whose states lie one behind the other; and one that aligns a state."""
    states = [
        CpuidLeaf(13, n, size, offset, aligned, 0)
        for n, size, offset, aligned in (
            (2, 256, 576, 0),
            (5, 64, 832, 0),
            (6, 512, 896, 0),
            (7, 1024, 1408, 0),
        )
    ]
    head = [CpuidLeaf(13, 0, 0xE7, 0, 2432, 0), CpuidLeaf(13, 1, 0xF, 0x988, 0, 0)]
    shown = policy([*head, *states])
    assert lookup(shown, 13, 0) == (0xE7, 2432, 2432, 0)
    assert lookup(shown, 13, 1) == (7, 2432, 0, 0)
    odd = [CpuidLeaf(13, 2, 250, 576, 0, 0), CpuidLeaf(13, 5, 64, 832, 2, 0)]
    assert register(policy([*head, *odd]), 13, 1, "ebx") == 576 + 256 + 64
