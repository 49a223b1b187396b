"""elf.h and sys/procfs.h: an ELF64 core file as Linux writes it on x86-64, which debuggers read."""

from ctypes import Array, LittleEndianStructure, c_uint8, c_uint64
from typing import Annotated

from xenion.abi.layout import S16, S32, U16, U32, U64, layout

ELF_IDENT = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")  # 64 bits, little-endian, version 1, System V
ET_CORE = 4
EM_X86_64 = 62
EV_CURRENT = 1

PT_LOAD = 1
PT_NOTE = 4
PF_R = 4

SHT_PROGBITS = 1
SHT_STRTAB = 3
SHT_NOTE = 7

NT_PRSTATUS = 1
CORE_NOTE_NAME = b"CORE\0"


@layout(64)
class Elf64Ehdr(LittleEndianStructure):
    """elf.h: ``Elf64_Ehdr``."""

    e_ident: Annotated[Array[c_uint8], c_uint8 * 16]
    e_type: U16
    e_machine: U16
    e_version: U32
    e_entry: U64
    e_phoff: U64
    e_shoff: U64
    e_flags: U32
    e_ehsize: U16
    e_phentsize: U16
    e_phnum: U16
    e_shentsize: U16
    e_shnum: U16
    e_shstrndx: U16


@layout(56)
class Elf64Phdr(LittleEndianStructure):
    """elf.h: ``Elf64_Phdr``."""

    p_type: U32
    p_flags: U32
    p_offset: U64
    p_vaddr: U64
    p_paddr: U64
    p_filesz: U64
    p_memsz: U64
    p_align: U64


@layout(64)
class Elf64Shdr(LittleEndianStructure):
    """elf.h: ``Elf64_Shdr``."""

    sh_name: U32
    sh_type: U32
    sh_flags: U64
    sh_addr: U64
    sh_offset: U64
    sh_size: U64
    sh_link: U32
    sh_info: U32
    sh_addralign: U64
    sh_entsize: U64


@layout(12)
class Elf64Nhdr(LittleEndianStructure):
    """elf.h: ``Elf64_Nhdr``; the name and the descriptor follow it, each padded to 4 bytes."""

    n_namesz: U32
    n_descsz: U32
    n_type: U32


@layout(12)
class ElfSiginfo(LittleEndianStructure):
    """sys/procfs.h: ``struct elf_siginfo``."""

    si_signo: S32
    si_code: S32
    si_errno: S32


@layout(216)
class UserRegsStruct(LittleEndianStructure):
    """sys/user.h: ``struct user_regs_struct``."""

    r15: U64
    r14: U64
    r13: U64
    r12: U64
    rbp: U64
    rbx: U64
    r11: U64
    r10: U64
    r9: U64
    r8: U64
    rax: U64
    rcx: U64
    rdx: U64
    rsi: U64
    rdi: U64
    orig_rax: U64
    rip: U64
    cs: U64
    eflags: U64
    rsp: U64
    ss: U64
    fs_base: U64
    gs_base: U64
    ds: U64
    es: U64
    fs: U64
    gs: U64


@layout(336)
class ElfPrstatus(LittleEndianStructure):
    """sys/procfs.h: ``struct elf_prstatus``; times are pairs of seconds and microseconds."""

    pr_info: ElfSiginfo
    pr_cursig: S16
    pr_sigpend: U64
    pr_sighold: U64
    pr_pid: S32
    pr_ppid: S32
    pr_pgrp: S32
    pr_sid: S32
    pr_utime: Annotated[Array[c_uint64], c_uint64 * 2]
    pr_stime: Annotated[Array[c_uint64], c_uint64 * 2]
    pr_cutime: Annotated[Array[c_uint64], c_uint64 * 2]
    pr_cstime: Annotated[Array[c_uint64], c_uint64 * 2]
    pr_reg: UserRegsStruct
    pr_fpvalid: S32
