"""The notes of a core file: Xen's tell its tools what it is, Linux's tell gdb the registers."""

from collections.abc import Sequence

from xenion.abi.arch_x86_64 import HYPERVISOR_VIRT_START
from xenion.abi.dumpcore import (
    XC_CORE_MAGIC,
    XEN_DUMPCORE_ELFNOTE_NAME,
    XEN_DUMPCORE_FORMAT_VERSION_CURRENT,
    XenDumpcoreElfnoteFormatVersionDesc,
    XenDumpcoreElfnoteHeaderDesc,
    XenDumpcoreElfnoteXenVersionDesc,
)
from xenion.abi.elf import CORE_NOTE_NAME, NT_PRSTATUS
from xenion.abi.elfnote import (
    XEN_ELFNOTE_DUMPCORE_FORMAT_VERSION,
    XEN_ELFNOTE_DUMPCORE_HEADER,
    XEN_ELFNOTE_DUMPCORE_NONE,
    XEN_ELFNOTE_DUMPCORE_XEN_VERSION,
)
from xenion.abi.version import MAJOR, MINOR, XenCompileInfo, XenPlatformParameters
from xenion.domain.dump.elf import note
from xenion.domain.dump.registers import prstatus
from xenion.processor import Registers
from xenion.vmm.hypercalls.version import CAPABILITIES, EXTRA
from xenion.vmm.memory import PAGE_SIZE
from xenion.vmm.vcpu import Vcpu


def xen_notes(nr_vcpus: int, nr_pages: int) -> bytes:
    """In the order in which Xen writes them."""
    header = XenDumpcoreElfnoteHeaderDesc(
        xch_magic=XC_CORE_MAGIC, xch_nr_vcpus=nr_vcpus, xch_nr_pages=nr_pages, xch_page_size=PAGE_SIZE
    )
    format_version = XenDumpcoreElfnoteFormatVersionDesc(version=XEN_DUMPCORE_FORMAT_VERSION_CURRENT)
    notes = {
        XEN_ELFNOTE_DUMPCORE_NONE: b"",
        XEN_ELFNOTE_DUMPCORE_HEADER: bytes(header),
        XEN_ELFNOTE_DUMPCORE_XEN_VERSION: bytes(_version()),
        XEN_ELFNOTE_DUMPCORE_FORMAT_VERSION: bytes(format_version),
    }
    return b"".join(note(XEN_DUMPCORE_ELFNOTE_NAME, kind, desc) for kind, desc in notes.items())


def _version() -> XenDumpcoreElfnoteXenVersionDesc:
    """What the xen_version hypercall tells the guest."""
    return XenDumpcoreElfnoteXenVersionDesc(
        major_version=MAJOR,
        minor_version=MINOR,
        extra_version=EXTRA,
        compile_info=XenCompileInfo(compiler=b"cc"),
        capabilities=CAPABILITIES,
        changeset=b"unavailable",
        platform_parameters=XenPlatformParameters(virt_start=HYPERVISOR_VIRT_START),
        pagesize=PAGE_SIZE,
    )


def linux_notes(vcpus: Sequence[tuple[Vcpu, Registers]]) -> bytes:
    """gdb begins with the first one."""
    return b"".join(
        note(CORE_NOTE_NAME, NT_PRSTATUS, bytes(prstatus(vcpu, registers))) for vcpu, registers in vcpus
    )
