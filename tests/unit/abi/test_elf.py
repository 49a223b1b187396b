"""elf.h, sys/procfs.h and sys/user.h as gcc lays them out on x86-64."""

from collections.abc import Callable

import pytest

from xenion.abi import elf

LAYOUTS: dict[type, str] = {
    elf.Elf64Ehdr: (
        "e_ident 0, e_type 16, e_machine 18, e_version 20, e_entry 24, e_phoff 32, e_shoff 40, e_flags 48, "
        "e_ehsize 52, e_phentsize 54, e_phnum 56, e_shentsize 58, e_shnum 60, e_shstrndx 62; 64"
    ),
    elf.Elf64Phdr: (
        "p_type 0, p_flags 4, p_offset 8, p_vaddr 16, p_paddr 24, p_filesz 32, p_memsz 40, p_align 48; 56"
    ),
    elf.Elf64Shdr: (
        "sh_name 0, sh_type 4, sh_flags 8, sh_addr 16, sh_offset 24, sh_size 32, sh_link 40, sh_info 44, "
        "sh_addralign 48, sh_entsize 56; 64"
    ),
    elf.Elf64Nhdr: "n_namesz 0, n_descsz 4, n_type 8; 12",
    elf.ElfSiginfo: "si_signo 0, si_code 4, si_errno 8; 12",
    elf.UserRegsStruct: (
        "r15 0, r14 8, r13 16, r12 24, rbp 32, rbx 40, r11 48, r10 56, r9 64, r8 72, rax 80, rcx 88, rdx 96, "
        "rsi 104, rdi 112, orig_rax 120, rip 128, cs 136, eflags 144, rsp 152, ss 160, fs_base 168, "
        "gs_base 176, ds 184, es 192, fs 200, gs 208; 216"
    ),
    elf.ElfPrstatus: (
        "pr_info 0, pr_cursig 12, pr_sigpend 16, pr_sighold 24, pr_pid 32, pr_ppid 36, pr_pgrp 40, "
        "pr_sid 44, pr_utime 48, pr_stime 64, pr_cutime 80, pr_cstime 96, pr_reg 112, pr_fpvalid 328; 336"
    ),
}


@pytest.mark.parametrize("structure", LAYOUTS, ids=lambda structure: structure.__name__)
def test_layout(structure: type, describe: Callable[[type], str]) -> None:
    assert describe(structure) == LAYOUTS[structure]


def test_identification() -> None:
    assert len(elf.ELF_IDENT) == 16
    assert elf.ELF_IDENT[:7] == b"\x7fELF\x02\x01\x01"
