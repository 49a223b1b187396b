"""The core file of a domain: an ELF64 core in which each reader finds its own way to the same pages.

Xen's tools and crash(8) go by the sections, as docs/misc/dump-core-format.txt has them. gdb goes by the
program headers: a thread's registers for each vCPU, and the kernel's virtual memory. No page is there twice.

The program headers are at the end of the file: crash takes a core that begins with them for a bare machine's,
and would read the guest's page tables wrongly.
"""

from array import array
from collections.abc import Callable, Sequence
from ctypes import sizeof
from dataclasses import dataclass

from xenion.abi.arch_x86_64 import VcpuGuestContext
from xenion.abi.dumpcore import (
    XEN_DUMPCORE_SEC_NOTE,
    XEN_DUMPCORE_SEC_P2M,
    XEN_DUMPCORE_SEC_PAGES,
    XEN_DUMPCORE_SEC_PRSTATUS,
    XEN_DUMPCORE_SEC_SHARED_INFO,
    XenDumpcoreP2m,
)
from xenion.abi.elf import SHT_NOTE, SHT_PROGBITS, SHT_STRTAB
from xenion.domain.dump.elf import (
    EHDR_SIZE,
    SHDR_SIZE,
    Section,
    core_header,
    program_headers,
    section_headers,
    string_table,
)
from xenion.domain.dump.notes import linux_notes, xen_notes
from xenion.domain.dump.output import DumpCancelled, DumpError, Output
from xenion.domain.dump.pages import OwnedPages, owned_pages, write_p2m, write_pages
from xenion.domain.dump.ranges import KernelMemory, kernel_memory
from xenion.vmm.context import guest_context
from xenion.vmm.domain import Domain
from xenion.vmm.memory import PAGE_SIZE

__all__ = ["Dump", "DumpCancelled", "DumpError", "Progress", "dump_core"]

Progress = Callable[[int, int], bool]
"""Bytes of the domain's memory that are done, and how many there are; false: stop."""

SECTIONS = (
    ".shstrtab",
    XEN_DUMPCORE_SEC_NOTE,
    XEN_DUMPCORE_SEC_PRSTATUS,
    XEN_DUMPCORE_SEC_SHARED_INFO,
    XEN_DUMPCORE_SEC_PAGES,
    XEN_DUMPCORE_SEC_P2M,
)
FRONT = EHDR_SIZE + (1 + len(SECTIONS)) * SHDR_SIZE


@dataclass(frozen=True, slots=True)
class Dump:
    """A core that was written: `pages` of the domain in `size` bytes, holes included.

    gdb sees `ranges` of the kernel's memory. It does not see `repeats`, mappings of pages that are mapped
    over and over, nor what each of `remarks` says in a sentence. Xen's sections hold every page in any case.
    """

    pages: int
    size: int
    ranges: int
    repeats: int
    remarks: Sequence[str]


def dump_core(domain: Domain, fd: int, progress: Progress) -> Dump:
    """Writes the domain's core into the empty file `fd`; DumpError, DumpCancelled.

    The guest may run meanwhile: then each page is as it was at some moment of the dump. Nobody may close the
    domain.
    Opens nothing: lseek, pwrite64 and fsync are all that it needs.
    """
    output = Output(fd)
    pages = owned_pages(domain)
    core = _Core(domain, pages)
    _go_on(progress, 0, pages)
    for done in write_pages(output, core.pages_offset, pages, domain.memory):
        _go_on(progress, done, pages)
    write_p2m(output, core.p2m_offset, pages)
    output.write(core.names_offset, core.back)
    output.write(0, core.front)
    output.finish()
    kernel, size = core.kernel, core.names_offset + len(core.back)
    return Dump(len(pages.mfns), size, len(kernel.ranges), kernel.repeats, _remarks(kernel))


def _go_on(progress: Progress, done: int, pages: OwnedPages) -> None:
    if not progress(done, pages.size):
        raise DumpCancelled


def _remarks(kernel: KernelMemory) -> list[str]:
    remarks = []
    if kernel.left_out:
        remarks.append(
            f"gdb does not see {kernel.left_out_pages} pages of the guest kernel's memory: they are "
            f"scattered over {kernel.left_out} ranges more than a core file has room for"
        )
    if not kernel.complete:
        remarks.append(
            "gdb does not see all of the guest kernel's memory: its page tables describe more than those of "
            "a sound kernel"
        )
    return remarks


def _aligned(offset: int, size: int) -> int:
    return -(-offset // size) * size


class _Core:
    """Everything but the pages, read when it is made. The file is `front`, the pages, their p2m, `back`."""

    def __init__(self, domain: Domain, pages: OwnedPages) -> None:
        vcpus = [(vcpu, domain.processor.registers(vcpu.id)) for vcpu in domain.vcpus]
        notes = xen_notes(len(vcpus), len(pages.mfns))
        contexts = b"".join(bytes(guest_context(vcpu, registers)) for vcpu, registers in vcpus)
        self._shared_info_offset = _aligned(FRONT + len(notes) + len(contexts), PAGE_SIZE)
        self.pages_offset = self._shared_info_offset + PAGE_SIZE
        self.p2m_offset = self.pages_offset + pages.size
        self.names_offset = self.p2m_offset + len(pages.mfns) * sizeof(XenDumpcoreP2m)
        self.kernel = self._kernel(domain, pages)
        self.back, phoff = self._back(linux_notes(vcpus))
        sections = self._sections(len(notes), len(contexts), pages)
        header = core_header(phoff, 1 + len(self.kernel.ranges), 1 + len(sections), names_section=1)
        front = header + section_headers(sections) + notes + contexts
        shared_info = bytes(domain.memory.page(domain.memory.shared_info_mfn))
        self.front = front.ljust(self._shared_info_offset, b"\0") + shared_info

    def _kernel(self, domain: Domain, pages: OwnedPages) -> KernelMemory:
        """The shared info is no page of the domain's, but the kernel maps it, too."""
        file_pages = array("Q", bytes(8 * domain.memory.nr_frames))
        for page, mfn in enumerate(pages.mfns, self.pages_offset // PAGE_SIZE):
            file_pages[mfn] = page
        file_pages[domain.memory.shared_info_mfn] = self._shared_info_offset // PAGE_SIZE
        return kernel_memory(domain.memory, domain.vcpus[0].state.cr3 // PAGE_SIZE, file_pages)

    def _back(self, notes: bytes) -> tuple[bytes, int]:
        """The sections' names, gdb's notes and the program headers; the offset of the last in the file."""
        names = string_table(SECTIONS)
        notes_offset = _aligned(self.names_offset + len(names), 8)
        phoff = _aligned(notes_offset + len(notes), 8)
        back = names.ljust(notes_offset - self.names_offset, b"\0") + notes
        headers = program_headers(notes_offset, len(notes), self.kernel.ranges)
        return back.ljust(phoff - self.names_offset, b"\0") + headers, phoff

    def _sections(self, notes: int, contexts: int, pages: OwnedPages) -> list[Section]:
        names, p2m = len(string_table(SECTIONS)), len(pages.mfns) * sizeof(XenDumpcoreP2m)
        context = sizeof(VcpuGuestContext)
        places = (
            (SHT_STRTAB, self.names_offset, names, 1, 0),
            (SHT_NOTE, FRONT, notes, 4, 0),
            (SHT_PROGBITS, FRONT + notes, contexts, 8, context),
            (SHT_PROGBITS, self._shared_info_offset, PAGE_SIZE, 8, PAGE_SIZE),
            (SHT_PROGBITS, self.pages_offset, pages.size, PAGE_SIZE, PAGE_SIZE),
            (SHT_PROGBITS, self.p2m_offset, p2m, 8, sizeof(XenDumpcoreP2m)),
        )
        return [Section(name, *place) for name, place in zip(SECTIONS, places, strict=True)]
