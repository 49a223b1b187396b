"""vcpu.h: operations on a virtual processor, and its runstate."""

from ctypes import Array, LittleEndianStructure, LittleEndianUnion, c_uint64
from typing import Annotated

from xenion.abi.layout import S32, U32, U64, layout

VCPUOP_initialise = 0
VCPUOP_up = 1
VCPUOP_down = 2
VCPUOP_is_up = 3
VCPUOP_get_runstate_info = 4
VCPUOP_register_runstate_memory_area = 5
VCPUOP_set_periodic_timer = 6
VCPUOP_stop_periodic_timer = 7
VCPUOP_set_singleshot_timer = 8
VCPUOP_stop_singleshot_timer = 9
VCPUOP_register_vcpu_info = 10
VCPUOP_send_nmi = 11
VCPUOP_get_physid = 12
VCPUOP_register_vcpu_time_memory_area = 13

RUNSTATE_running = 0
RUNSTATE_runnable = 1
RUNSTATE_blocked = 2
RUNSTATE_offline = 3

XEN_RUNSTATE_UPDATE = 1 << 63  # in state_entry_time, while the area is being written

VCPU_SSHOTTMR_future = 1 << 0  # answer -ETIME to a timeout that has passed


@layout(48)
class VcpuRunstateInfo(LittleEndianStructure):
    """vcpu.h: ``struct vcpu_runstate_info``; times in ns, ``time`` indexed by RUNSTATE_*."""

    state: S32
    state_entry_time: U64
    time: Annotated[Array[c_uint64], c_uint64 * 4]


@layout(8)
class VcpuRegisterRunstateMemoryAreaAddr(LittleEndianUnion):
    """vcpu.h: ``vcpu_register_runstate_memory_area.addr``."""

    h: U64
    v: U64
    p: U64


@layout(8)
class VcpuRegisterRunstateMemoryArea(LittleEndianStructure):
    """vcpu.h: ``struct vcpu_register_runstate_memory_area``."""

    addr: VcpuRegisterRunstateMemoryAreaAddr


@layout(8)
class VcpuSetPeriodicTimer(LittleEndianStructure):
    """vcpu.h: ``struct vcpu_set_periodic_timer``."""

    period_ns: U64


@layout(16)
class VcpuSetSingleshotTimer(LittleEndianStructure):
    """vcpu.h: ``struct vcpu_set_singleshot_timer``; ``flags`` is VCPU_SSHOTTMR_*."""

    timeout_abs_ns: U64
    flags: U32


@layout(16)
class VcpuRegisterVcpuInfo(LittleEndianStructure):
    """vcpu.h: ``struct vcpu_register_vcpu_info``."""

    mfn: U64
    offset: U32
    rsvd: U32


@layout(8)
class VcpuGetPhysid(LittleEndianStructure):
    """vcpu.h: ``struct vcpu_get_physid``; APIC id in the low half, ACPI id in the high half."""

    phys_id: U64


@layout(8)
class VcpuRegisterTimeMemoryAreaAddr(LittleEndianUnion):
    """vcpu.h: ``vcpu_register_time_memory_area.addr``."""

    h: U64
    v: U64
    p: U64


@layout(8)
class VcpuRegisterTimeMemoryArea(LittleEndianStructure):
    """vcpu.h: ``struct vcpu_register_time_memory_area``."""

    addr: VcpuRegisterTimeMemoryAreaAddr
