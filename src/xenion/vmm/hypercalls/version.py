"""xen_version (version.h) and vm_assist (xen.h)."""

from xenion.abi.arch_x86_64 import HYPERVISOR_VIRT_START
from xenion.abi.errno import Errno
from xenion.abi.features import (
    XENFEAT_direct_mapped,
    XENFEAT_gnttab_map_avail_bits,
    XENFEAT_highmem_assist,
    XENFEAT_memory_op_vnode_supported,
    XENFEAT_mmu_pt_update_preserve_ad,
    XENFEAT_pae_pgdir_above_4gb,
)
from xenion.abi.version import (
    MAJOR,
    MINOR,
    XenCompileInfo,
    XenFeatureInfo,
    XenPlatformParameters,
    XENVER_build_id,
    XENVER_capabilities,
    XENVER_changeset,
    XENVER_commandline,
    XENVER_compile_info,
    XENVER_extraversion,
    XENVER_get_features,
    XENVER_guest_handle,
    XENVER_pagesize,
    XENVER_platform_parameters,
    XENVER_version,
)
from xenion.abi.xen import (
    VMASST_CMD_disable,
    VMASST_CMD_enable,
    VMASST_TYPE_4gb_segments,
    VMASST_TYPE_4gb_segments_notify,
    VMASST_TYPE_architectural_iopl,
    VMASST_TYPE_m2p_strict,
    VMASST_TYPE_pae_extended_cr3,
    VMASST_TYPE_runstate_update_flag,
    VMASST_TYPE_writable_pagetables,
)
from xenion.vmm.errors import GuestError
from xenion.vmm.memory import PAGE_SIZE
from xenion.vmm.vcpu import Vcpu

EXTRA = b".0-xenion"
CAPABILITIES = b"xen-3.0-x86_64 "
FEATURES = (
    1 << XENFEAT_pae_pgdir_above_4gb
    | 1 << XENFEAT_mmu_pt_update_preserve_ad
    | 1 << XENFEAT_highmem_assist
    | 1 << XENFEAT_gnttab_map_avail_bits
    | 1 << XENFEAT_memory_op_vnode_supported
    | 1 << XENFEAT_direct_mapped
)
ASSISTS = {
    VMASST_TYPE_4gb_segments,
    VMASST_TYPE_4gb_segments_notify,
    VMASST_TYPE_writable_pagetables,
    VMASST_TYPE_pae_extended_cr3,
    VMASST_TYPE_architectural_iopl,
    VMASST_TYPE_runstate_update_flag,
    VMASST_TYPE_m2p_strict,
}


def _features(vcpu: Vcpu, address: int) -> int:
    info = vcpu.read_struct(address, XenFeatureInfo)
    if info.submap_idx:
        raise GuestError(Errno.EINVAL)
    info.submap = FEATURES
    vcpu.write_struct(address, info)
    return 0


def _fixed(size: int, text: bytes) -> bytes:
    return text.ljust(size, b"\0")


def xen_version(vcpu: Vcpu, args: list[int]) -> int:
    command, address = args[0] & 0xFFFFFFFF, args[1]
    if command == XENVER_version:
        return MAJOR << 16 | MINOR
    if command == XENVER_pagesize:
        if address:
            raise GuestError(Errno.EINVAL)
        return PAGE_SIZE
    if command == XENVER_get_features:
        return _features(vcpu, address)
    answers = {
        XENVER_extraversion: _fixed(16, EXTRA),
        XENVER_compile_info: bytes(
            XenCompileInfo(compiler=b"cc", compile_by=b"", compile_domain=b"", compile_date=b"")
        ),
        XENVER_capabilities: _fixed(1024, CAPABILITIES),
        XENVER_changeset: _fixed(64, b"unavailable"),
        XENVER_platform_parameters: bytes(XenPlatformParameters(virt_start=HYPERVISOR_VIRT_START)),
        XENVER_guest_handle: vcpu.domain.handle,
        XENVER_commandline: _fixed(1024, b""),
    }
    if command == XENVER_build_id:
        raise GuestError(Errno.ENODATA)
    if command not in answers:
        raise GuestError(Errno.ENOSYS)
    vcpu.write(address, answers[command])
    return 0


def vm_assist(vcpu: Vcpu, args: list[int]) -> int:
    command, kind = args[0] & 0xFFFFFFFF, args[1] & 0xFFFFFFFF
    if command not in (VMASST_CMD_enable, VMASST_CMD_disable):
        raise GuestError(Errno.ENOSYS)
    if kind not in ASSISTS:
        raise GuestError(Errno.EINVAL)
    state = vcpu.domain.state
    state.vm_assist = state.vm_assist & ~(1 << kind) | (1 << kind if command == VMASST_CMD_enable else 0)
    return 0
