"""arch-x86/cpuid.h."""

from xenion.abi import cpuid


def test_signature_spells_the_hypervisors_name() -> None:
    words = (cpuid.XEN_CPUID_SIGNATURE_EBX, cpuid.XEN_CPUID_SIGNATURE_ECX, cpuid.XEN_CPUID_SIGNATURE_EDX)
    assert b"".join(word.to_bytes(4, "little") for word in words) == b"XenVMMXenVMM"


def test_numbers() -> None:
    assert cpuid.XEN_CPUID_FIRST_LEAF == 0x40000000
    assert cpuid.XEN_CPUID_MAX_NUM_LEAVES == 5
    assert cpuid.XEN_HVM_CPUID_UPCALL_VECTOR == 64
