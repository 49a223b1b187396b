"""arch-x86/xen.h and arch-x86/xen-x86_64.h as gcc lays it out."""

from collections.abc import Callable

import pytest

from xenion.abi import arch_x86_64

# Each structure's fields with their offsets, and its size: gcc's numbers for the headers of Xen 4.17.
LAYOUTS: dict[type, str] = {
    arch_x86_64.TrapInfo: "vector 0, flags 1, cs 2, address 8; 16",
    arch_x86_64.IretContext: "rax 0, r11 8, rcx 16, flags 24, rip 32, cs 40, rflags 48, rsp 56, ss 64; 72",
    arch_x86_64.CpuUserRegs: (
        "r15 0, r14 8, r13 16, r12 24, rbp 32, rbx 40, r11 48, r10 56, r9 64, r8 72, rax 80, rcx 88, "
        "rdx 96, rsi 104, rdi 112, error_code 120, entry_vector 124, rip 128, cs 136, _pad0 138, "
        "saved_upcall_mask 140, _pad1 141, rflags 144, rsp 152, ss 160, _pad2 162, es 168, _pad3 170, "
        "ds 176, _pad4 178, fs 184, _pad5 186, gs 192, _pad6 194; 200"
    ),
    arch_x86_64.ArchVcpuInfo: "cr2 0, pad 8; 16",
    arch_x86_64.ArchSharedInfo: (
        "max_pfn 0, pfn_to_mfn_frame_list_list 8, nmi_reason 16, p2m_cr3 24, p2m_vaddr 32, "
        "p2m_generation 40; 48"
    ),
    arch_x86_64.VcpuGuestContext: (
        "fpu_ctxt 0, flags 512, user_regs 520, trap_ctxt 720, ldt_base 4816, ldt_ents 4824, "
        "gdt_frames 4832, gdt_ents 4960, kernel_ss 4968, kernel_sp 4976, ctrlreg 4984, debugreg 5048, "
        "event_callback_eip 5112, failsafe_callback_eip 5120, syscall_callback_eip 5128, vm_assist 5136, "
        "fs_base 5144, gs_base_kernel 5152, gs_base_user 5160; 5168"
    ),
    arch_x86_64.XenCpuidLeaf: "leaf 0, subleaf 4, a 8, b 12, c 16, d 20; 24",
    arch_x86_64.XenMsrEntry: "idx 0, flags 4, val 8; 16",
}


@pytest.mark.parametrize("structure", LAYOUTS, ids=lambda structure: structure.__name__)
def test_layout(structure: type, describe: Callable[[type], str]) -> None:
    assert describe(structure) == LAYOUTS[structure]


def test_selectors_and_addresses() -> None:
    arch = arch_x86_64
    assert (arch.FLAT_KERNEL_CS, arch.FLAT_KERNEL_DS, arch.FLAT_KERNEL_SS) == (0xE033, 0, 0xE02B)
    assert (arch.FLAT_USER_CS32, arch.FLAT_USER_CS64) == (0xE023, 0xE033)
    assert arch.HYPERVISOR_VIRT_START >> 39 & 511 == 256
    assert arch.HYPERVISOR_VIRT_END >> 39 & 511 == 272
    assert arch.MACH2PHYS_NR_ENTRIES == 1 << 35
    assert arch.FIRST_RESERVED_GDT_ENTRY == 7168
    assert arch.VGCF_in_syscall == 256


def test_selectors_lie_in_the_reserved_gdt() -> None:
    first = arch_x86_64.FIRST_RESERVED_GDT_ENTRY
    for name, selector in vars(arch_x86_64).items():
        if name.startswith("FLAT_") and selector:
            assert selector >> 3 >= first
            assert selector & 7 == 3


def test_emulated_cpuid_is_the_prefix_before_the_instruction() -> None:
    assert arch_x86_64.XEN_CPUID == b"\x0f\x0bxen\x0f\xa2"
