"""What the notes say."""

import struct

from tests.unit.domain.dump.guest import small_kernel
from xenion.abi.dumpcore import XenDumpcoreElfnoteHeaderDesc, XenDumpcoreElfnoteXenVersionDesc
from xenion.abi.elf import ElfPrstatus
from xenion.domain.dump.notes import linux_notes, xen_notes


def test_xen_notes_in_xens_order_with_headers_of_16_bytes() -> None:
    """Xen's tools step from one note to the next by 16 bytes and the descriptor."""
    notes, found = xen_notes(2, 300), {}
    at = 0
    while at < len(notes):
        namesz, descsz, kind, name = struct.unpack_from("<III4s", notes, at)
        assert (namesz, name) == (4, b"Xen\0")
        found[kind] = notes[at + 16 : at + 16 + descsz]
        at += 16 + descsz
    assert list(found) == [0x2000000, 0x2000001, 0x2000002, 0x2000003]
    header = XenDumpcoreElfnoteHeaderDesc.from_buffer_copy(found[0x2000001])
    assert (header.xch_magic, header.xch_nr_vcpus) == (0xF00FEBED, 2)
    assert (header.xch_nr_pages, header.xch_page_size) == (300, 4096)
    version = XenDumpcoreElfnoteXenVersionDesc.from_buffer_copy(found[0x2000002])
    assert (version.major_version, version.minor_version, version.extra_version) == (4, 17, b".0-xenion")
    assert version.capabilities == b"xen-3.0-x86_64 "
    assert (version.platform_parameters.virt_start, version.pagesize) == (0xFFFF800000000000, 4096)
    assert found[0x2000003] == struct.pack("<Q", 1)


def test_linux_notes_are_one_a_vcpu() -> None:
    with small_kernel() as kernel:
        vcpu = (kernel.vcpu, kernel.domain.processor.registers(0))
        notes = linux_notes([vcpu, vcpu])
    assert len(notes) == 2 * (12 + 8 + 336)
    assert notes[12:20] == b"CORE\0\0\0\0"
    assert ElfPrstatus.from_buffer_copy(notes, 20).pr_pid == 1
