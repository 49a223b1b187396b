"""version.h: what the hypervisor says of itself."""

from ctypes import LittleEndianStructure, c_char
from typing import Annotated

from xenion.abi.layout import U32, U64, layout

MAJOR, MINOR = 4, 17
"""The version of the interface that guests find."""

XENVER_version = 0
XENVER_extraversion = 1
XENVER_compile_info = 2
XENVER_capabilities = 3
XENVER_changeset = 4
XENVER_platform_parameters = 5
XENVER_get_features = 6
XENVER_pagesize = 7
XENVER_guest_handle = 8
XENVER_commandline = 9
XENVER_build_id = 10

# Sizes in bytes of the plain character arrays that some queries fill.
XEN_EXTRAVERSION_LEN = 16
XEN_CAPABILITIES_INFO_LEN = 1024
XEN_CHANGESET_INFO_LEN = 64
XEN_COMMANDLINE_LEN = 1024  # sizeof(xen_commandline_t)
XEN_DOMAIN_HANDLE_LEN = 16  # sizeof(xen_domain_handle_t), xen.h


@layout(144)
class XenCompileInfo(LittleEndianStructure):
    """version.h: ``struct xen_compile_info``; NUL-terminated strings."""

    compiler: Annotated[bytes, c_char * 64]
    compile_by: Annotated[bytes, c_char * 16]
    compile_domain: Annotated[bytes, c_char * 32]
    compile_date: Annotated[bytes, c_char * 32]


@layout(8)
class XenPlatformParameters(LittleEndianStructure):
    """version.h: ``struct xen_platform_parameters``."""

    virt_start: U64


@layout(8)
class XenFeatureInfo(LittleEndianStructure):
    """version.h: ``struct xen_feature_info``; bit n of ``submap`` is XENFEAT number 32 * submap_idx + n."""

    submap_idx: U32
    submap: U32


@layout(4)
class XenBuildId(LittleEndianStructure):
    """version.h: ``struct xen_build_id``; ``len`` bytes of identifier follow it."""

    len: U32
