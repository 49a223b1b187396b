"""vcpu.h as gcc lays it out."""

from collections.abc import Callable

import pytest

from xenion.abi import vcpu

# Each structure's fields with their offsets, and its size: gcc's numbers for the headers of Xen 4.17.
LAYOUTS: dict[type, str] = {
    vcpu.VcpuRunstateInfo: "state 0, state_entry_time 8, time 16; 48",
    vcpu.VcpuRegisterRunstateMemoryAreaAddr: "h 0, v 0, p 0; 8",
    vcpu.VcpuRegisterRunstateMemoryArea: "addr 0; 8",
    vcpu.VcpuSetPeriodicTimer: "period_ns 0; 8",
    vcpu.VcpuSetSingleshotTimer: "timeout_abs_ns 0, flags 8; 16",
    vcpu.VcpuRegisterVcpuInfo: "mfn 0, offset 8, rsvd 12; 16",
    vcpu.VcpuGetPhysid: "phys_id 0; 8",
    vcpu.VcpuRegisterTimeMemoryAreaAddr: "h 0, v 0, p 0; 8",
    vcpu.VcpuRegisterTimeMemoryArea: "addr 0; 8",
}


@pytest.mark.parametrize("structure", LAYOUTS, ids=lambda structure: structure.__name__)
def test_layout(structure: type, describe: Callable[[type], str]) -> None:
    assert describe(structure) == LAYOUTS[structure]


def test_numbers() -> None:
    assert (vcpu.VCPUOP_is_up, vcpu.VCPUOP_register_vcpu_info) == (3, 10)
    assert vcpu.VCPUOP_register_vcpu_time_memory_area == 13
    assert vcpu.RUNSTATE_offline == 3
    assert vcpu.XEN_RUNSTATE_UPDATE == 0x8000000000000000
