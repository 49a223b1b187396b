"""xen.h as gcc lays it out."""

from collections.abc import Callable

import pytest

from xenion.abi import xen

# Each structure's fields with their offsets, and its size: gcc's numbers for the headers of Xen 4.17.
LAYOUTS: dict[type, str] = {
    xen.MmuextOpArg1: "mfn 0, linear_addr 0; 8",
    xen.MmuextOpArg2: "nr_ents 0, vcpumask 0, src_mfn 0; 8",
    xen.MmuextOp: "cmd 0, arg1 8, arg2 16; 24",
    xen.MmuUpdate: "ptr 0, val 8; 16",
    xen.MultiCallEntry: "op 0, result 8, args 16; 64",
    xen.VcpuTimeInfo: (
        "version 0, pad0 4, tsc_timestamp 8, system_time 16, tsc_to_system_mul 24, tsc_shift 28, flags 29, "
        "pad1 30; 32"
    ),
    xen.VcpuInfo: "evtchn_upcall_pending 0, evtchn_upcall_mask 1, evtchn_pending_sel 8, arch 16, time 32; 64",
    xen.SharedInfo: (
        "vcpu_info 0, evtchn_pending 2048, evtchn_mask 2560, wc_version 3072, wc_sec 3076, wc_nsec 3080, "
        "wc_sec_hi 3084, arch 3088; 3136"
    ),
    xen.StartInfoConsoleDomU: "mfn 0, evtchn 8; 16",
    xen.StartInfoConsoleDom0: "info_off 0, info_size 4; 8",
    xen.StartInfoConsole: "domU 0, dom0 0; 16",
    xen.StartInfo: (
        "magic 0, nr_pages 32, shared_info 40, flags 48, store_mfn 56, store_evtchn 64, console 72, "
        "pt_base 88, nr_pt_frames 96, mfn_list 104, mod_start 112, mod_len 120, cmd_line 128, "
        "first_p2m_pfn 1152, nr_p2m_frames 1160; 1168"
    ),
    xen.XenMultibootModList: "mod_start 0, mod_end 4, cmdline 8, pad 12; 16",
    xen.VgaTextMode3: "font_height 0, cursor_x 2, cursor_y 4, rows 6, columns 8; 10",
    xen.VgaVesaLfb: (
        "width 0, height 2, bytes_per_line 4, bits_per_pixel 6, lfb_base 8, lfb_size 12, red_pos 16, "
        "red_size 17, green_pos 18, green_size 19, blue_pos 20, blue_size 21, rsvd_pos 22, rsvd_size 23, "
        "gbl_caps 24, mode_attrs 28, pad 30, ext_lfb_base 32; 36"
    ),
    xen.Dom0VgaConsoleInfoU: "text_mode_3 0, vesa_lfb 0; 36",
    xen.Dom0VgaConsoleInfo: "video_type 0, u 4; 40",
}


@pytest.mark.parametrize("structure", LAYOUTS, ids=lambda structure: structure.__name__)
def test_layout(structure: type, describe: Callable[[type], str]) -> None:
    assert describe(structure) == LAYOUTS[structure]


def test_hypercall_numbers() -> None:
    numbers = {name: call.value for name, call in xen.Hypercall.__members__.items()}
    assert list(numbers)[:4] == ["set_trap_table", "mmu_update", "set_gdt", "stack_switch"]
    assert (numbers["multicall"], numbers["iret"], numbers["event_channel_op"]) == (13, 23, 32)
    assert numbers["mca"] == numbers["arch_0"] == 48
    assert 11 not in numbers.values()


def test_numbers_that_leave_a_gap() -> None:
    assert (xen.MMUEXT_SET_LDT, xen.MMUEXT_NEW_USER_BASEPTR) == (13, 15)
    assert (xen.VIRQ_TBUF, xen.VIRQ_DEBUGGER, xen.VIRQ_ARCH_0) == (4, 6, 16)
    assert (xen.VMASST_TYPE_runstate_update_flag, xen.VMASST_TYPE_m2p_strict) == (5, 32)
    assert (xen.DOMID_SELF, xen.DOMID_INVALID, xen.DOMID_IDLE) == (0x7FF0, 0x7FF4, 0x7FFF)
    assert (xen.UVMF_INVLPG | xen.UVMF_ALL, xen.UVMF_FLUSHTYPE_MASK) == (6, 3)
    assert xen.SIF_PM_MASK == 0xFF00


def test_start_info_reads_back_what_was_written() -> None:
    info = xen.StartInfo(magic=b"xen-3.0-x86_64", nr_pages=1 << 40, cmd_line=b"console=hvc0")
    info.console.domU.mfn = 0x1234
    copy = xen.StartInfo.from_buffer_copy(bytes(info))
    assert copy.magic == b"xen-3.0-x86_64"
    assert copy.nr_pages == 1 << 40
    assert copy.console.domU.mfn == 0x1234
    assert copy.cmd_line == b"console=hvc0"
    assert bytes(info)[128:140] == b"console=hvc0"


def test_vcpu_shift_is_signed() -> None:
    assert xen.VcpuTimeInfo.from_buffer_copy(b"\xff" * 32).tsc_shift == -1
