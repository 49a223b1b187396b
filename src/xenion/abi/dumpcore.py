"""xg_core.h and docs/misc/dump-core-format.txt: what Xen's tools write into a domain's core file, format 0.1.

The types of its notes, which are all named "Xen", are in `xenion.abi.elfnote`.
"""

from ctypes import LittleEndianStructure, c_char
from typing import Annotated

from xenion.abi.layout import U64, layout
from xenion.abi.version import (
    XEN_CAPABILITIES_INFO_LEN,
    XEN_CHANGESET_INFO_LEN,
    XEN_EXTRAVERSION_LEN,
    XenCompileInfo,
    XenPlatformParameters,
)

XEN_DUMPCORE_SEC_NOTE = ".note.Xen"
XEN_DUMPCORE_SEC_PRSTATUS = ".xen_prstatus"
XEN_DUMPCORE_SEC_SHARED_INFO = ".xen_shared_info"
XEN_DUMPCORE_SEC_P2M = ".xen_p2m"
XEN_DUMPCORE_SEC_PAGES = ".xen_pages"

XEN_DUMPCORE_ELFNOTE_NAME = b"Xen\0"
XC_CORE_MAGIC = 0xF00FEBED  # xenctrl.h: a paravirtualised domain
XC_CORE_INVALID_PFN = (1 << 64) - 1

XEN_DUMPCORE_FORMAT_VERSION_CURRENT = 0 << 32 | 1  # major and minor


@layout(32)
class XenDumpcoreElfnoteHeaderDesc(LittleEndianStructure):
    """xg_core.h: ``struct xen_dumpcore_elfnote_header_desc``; ``xch_magic`` is XC_CORE_MAGIC."""

    xch_magic: U64
    xch_nr_vcpus: U64
    xch_nr_pages: U64
    xch_page_size: U64


@layout(1280)
class XenDumpcoreElfnoteXenVersionDesc(LittleEndianStructure):
    """xg_core.h: ``struct xen_dumpcore_elfnote_xen_version_desc``: the answers of xen_version."""

    major_version: U64
    minor_version: U64
    extra_version: Annotated[bytes, c_char * XEN_EXTRAVERSION_LEN]
    compile_info: XenCompileInfo
    capabilities: Annotated[bytes, c_char * XEN_CAPABILITIES_INFO_LEN]
    changeset: Annotated[bytes, c_char * XEN_CHANGESET_INFO_LEN]
    platform_parameters: XenPlatformParameters
    pagesize: U64


@layout(8)
class XenDumpcoreElfnoteFormatVersionDesc(LittleEndianStructure):
    """xg_core.h: ``struct xen_dumpcore_elfnote_format_version_desc``; the major version in the high half."""

    version: U64


@layout(16)
class XenDumpcoreP2m(LittleEndianStructure):
    """xg_core.h: ``struct xen_dumpcore_p2m``; ``pfn`` XC_CORE_INVALID_PFN where the page has none."""

    pfn: U64
    gmfn: U64
