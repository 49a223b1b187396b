"""The keys of xm and xl that are known and not acted on yet: files that hold them work, and a note says so.

They come in groups of one meaning; where the guest gets something other than the file asks for, the group
says what.
"""

from __future__ import annotations

from collections.abc import Iterator

from xenion.config.key import Key, Status
from xenion.config.values import Kind, Value

_DISK = "use disk"
_NETWORK = "use vif"
_DISPLAY = "there is no virtual display"
_DEVICE = "the guest gets no such device"
_HOST_DEVICE = "the guest gets no device of the host"
_BOOT = "the guest boots the file that kernel names"
_BACKEND = "no domain serves devices to others"
_PROCESSOR = "what runs the guest decides"
_CLOCK = "the guest's clock is the host's, in UTC"
_NOT_PV = "without effect on a paravirtualised guest"
_NOT_X86 = "without effect on an x86 guest"

_SCHEDULING = "The domain's share of the host's processors."
_LABEL = "A security label of the domain."
_LIMIT = "A limit on what the hypervisor keeps for the domain."
_PASSED = "Host devices in the guest."
_LOADER = "A boot loader that reads the guest's disk."
_SCREEN = "A virtual display."
_SPICE = "A virtual display over SPICE."
_HARDWARE = "Emulated hardware."
_MODEL = "The program that emulates hardware."
_SHIM = "A hypervisor between Xen and the guest."
_ARM = "For guests on ARM."

# What the keys ask for, the end of their note, their kind, their names, and beside the empty ones the values
# that ask for nothing.
_GROUPS: tuple[tuple[str, str, Kind, str, tuple[Value, ...]], ...] = (
    ("The domain in words.", "", Kind.TEXT, "description", ()),
    ("As the manual page of xm calls `on_poweroff`.", "use on_poweroff", Kind.TEXT, "on_shutdown", ()),
    ("What becomes of the domain when it resets itself (xl).", "", Kind.TEXT, "on_soft_reset", ()),
    (_SCHEDULING, "", Kind.NUMBER, "period slice latency extratime", ()),
    ("The pool of host processors that the domain runs in.", "", Kind.TEXT, "pool", ()),
    ("Host CPUs that are preferred for the domain.", "", Kind.ITEM_OR_ITEMS, "cpus_soft", ()),
    ("Mask of the virtual CPUs that are online (xm).", "", Kind.NUMBER, "vcpu_avail", (1,)),
    ("The memory that the guest starts with (xm).", "", Kind.NUMBER, "target", ()),
    ("Memory shared with other domains (xm).", "", Kind.FLAG, "memory_sharing", ()),
    ("Guest memory in superpages (xm).", "", Kind.FLAG, "superpages", ()),
    ("Highest machine address width, in bits (xm).", "", Kind.NUMBER, "machine_address_size", ()),
    ("The host's memory map in the guest.", "the guest gets a map of its own", Kind.FLAG, "e820_host", ()),
    ("Virtual NUMA nodes.", "the guest's memory is one node", Kind.ITEMS, "vnuma", ()),
    ("Colours of the last-level cache.", "", Kind.ITEMS, "llc_colors", ()),
    ("CPU features shown to the guest.", _PROCESSOR, Kind.ANY, "cpuid cpuid_check", ()),
    ("Features required of the guest.", "", Kind.TEXT, "features", ()),
    ("How the guest reads the time-stamp counter.", _PROCESSOR, Kind.ANY, "tsc_mode", ("default", "0")),
    ("A clock in local time.", _CLOCK, Kind.FLAG, "localtime", ()),
    ("An offset of the guest's clock, in seconds.", _CLOCK, Kind.NUMBER, "rtc_timeoffset", ()),
    ("A processor trace buffer, in KiB.", "", Kind.NUMBER, "vmtrace_buf_kb", ()),
    ("Performance counters for the guest.", "", Kind.FLAG, "vpmu", ()),
    ("The domain may not be migrated.", "domains are not migrated", Kind.FLAG, "nomigrate", ()),
    ("For guests that cannot suspend otherwise.", "", Kind.FLAG, "xend_suspend_evtchn_compat", ()),
    ("Page faults that need not reach the guest (xm).", "", Kind.FLAG, "suppress_spurious_page_faults", ()),
    ("Memory is verified when the host wakes up (xm).", "", Kind.FLAG, "s3_integrity", ()),
    (_LABEL, "", Kind.TEXT, "seclabel init_seclabel", ()),
    (_LABEL, "", Kind.ITEMS, "access_control", ()),
    (_LABEL, "", Kind.NUMBER, "ssidref", ()),
    (_LIMIT, "", Kind.NUMBER, "max_grant_frames max_maptrack_frames max_grant_version", ()),
    (_LIMIT, "", Kind.NUMBER, "max_event_channels", ()),
    ("Limits of the domain in the store.", "", Kind.ITEMS, "xenstore_quota", ()),
    ("Features of the store that the domain sees.", "", Kind.NUMBER, "xenstore_feature_mask", ()),
    ("A TCP port for the console (xm).", "use xm console", Kind.NUMBER, "console", ()),
    ("Images of floppies and a CD-ROM (xm).", _DISK, Kind.TEXT, "fda fdb cdrom", ()),
    ("Virtual network interfaces.", _NETWORK, Kind.ITEMS, "vif2", ()),
    ("Addresses of the virtual network interfaces (xm).", "use ip= in vif", Kind.ITEMS, "ipaddr", ()),
    (_SCREEN, _DISPLAY, Kind.ITEMS, "vfb", ()),
    (_SCREEN, _DISPLAY, Kind.FLAG, "vnc sdl vncunused vncconsole vncviewer opengl", ()),
    (_SCREEN, _DISPLAY, Kind.TEXT, "vnclisten vncpasswd display xauthority keymap", ()),
    (_SCREEN, _DISPLAY, Kind.NUMBER, "vncdisplay", ()),
    ("Virtual devices.", _DEVICE, Kind.ITEMS, "vtpm vscsi vusb p9 pvcalls channel vkb vsnd vdispl", ()),
    ("Virtual devices.", _DEVICE, Kind.ITEMS, "usbctrl usbdev virtio", ()),
    (_PASSED, _HOST_DEVICE, Kind.ITEMS, "pci irq irqs ioports iomem dtdev usbport", ()),
    (_PASSED, _HOST_DEVICE, Kind.FLAG, "pci_permissive pci_msitranslate pci_seize pci_power_mgmt", ()),
    (_PASSED, _HOST_DEVICE, Kind.TEXT, "passthrough", ("disabled", "default", "0")),
    (_LOADER, _BOOT, Kind.TEXT, "bootloader bootentry bootargs bootloader_user firmware", ()),
    (_LOADER, _BOOT, Kind.ITEM_OR_ITEMS, "bootloader_args", ()),
    (_LOADER, _BOOT, Kind.FLAG, "bootloader_restrict", ()),
    ("A domain that serves devices to others.", _BACKEND, Kind.FLAG, "driver_domain blkif netif tpmif", ()),
    (_HARDWARE, _NOT_PV, Kind.FLAG, "pae acpi acpi_s3 acpi_s4 acpi_laptop_slate apic lapic nx hpet", ()),
    (_HARDWARE, _NOT_PV, Kind.FLAG, "hap oos vpt_align nestedhvm altp2mhvm hvm_pirq msr_relaxed", ()),
    (_HARDWARE, _NOT_PV, Kind.FLAG, "xen_platform_pci xen_platform_pci_bar_uc stdvga vkb_device", ()),
    (_HARDWARE, _NOT_PV, Kind.FLAG, "nographic isa ne2000 audio", ()),
    (_HARDWARE, _NOT_PV, Kind.NUMBER, "shadow_memory videoram mmio_hole usbversion rdm_mem_boundary", ()),
    (_HARDWARE, _NOT_PV, Kind.NUMBER, "altp2m_count", ()),
    (_HARDWARE, _NOT_PV, Kind.TEXT, "boot bios bios_path_override loader firmware_override memmap", ()),
    (_HARDWARE, _NOT_PV, Kind.TEXT, "hdtype vga soundhw parallel acpi_firmware smbios_firmware rdm", ()),
    (_HARDWARE, _NOT_PV, Kind.TEXT, "ms_vm_genid vendor_device guest_os_type", ("default", "none")),
    (_HARDWARE, _NOT_PV, Kind.ITEMS, "smbios mca_caps", ()),
    (
        _HARDWARE,
        _NOT_PV,
        Kind.ANY,
        "viridian timer_mode altp2m gfx_passthru serial usb usbdevice",
        ("0", "no", "disabled"),
    ),
    (_MODEL, _NOT_PV, Kind.TEXT, "device_model device_model_version device_model_override", ()),
    (_MODEL, _NOT_PV, Kind.TEXT, "device_model_user device_model_stubdomain_seclabel monitor_path", ()),
    (_MODEL, _NOT_PV, Kind.TEXT, "stubdomain_kernel stubdomain_cmdline stubdomain_ramdisk", ()),
    (_MODEL, _NOT_PV, Kind.NUMBER, "stubdomain_memory", ()),
    (_MODEL, _NOT_PV, Kind.FLAG, "device_model_stubdomain_override dm_restrict monitor", ()),
    (_MODEL, _NOT_PV, Kind.ITEM_OR_ITEMS, "device_model_args device_model_args_pv device_model_args_hvm", ()),
    (_SPICE, _NOT_PV, Kind.FLAG, "spice spicedisable_ticketing spiceagent_mouse spicevdagent", ()),
    (_SPICE, _NOT_PV, Kind.FLAG, "spice_clipboard_sharing", ()),
    (_SPICE, _NOT_PV, Kind.NUMBER, "spiceport spicetls_port spiceusbredirection", ()),
    (_SPICE, _NOT_PV, Kind.TEXT, "spicehost spicepasswd spice_image_compression spice_streaming_video", ()),
    (_SHIM, _NOT_PV, Kind.FLAG, "pvshim", ()),
    (_SHIM, _NOT_PV, Kind.TEXT, "pvshim_path pvshim_cmdline pvshim_extra", ()),
    (_ARM, _NOT_X86, Kind.TEXT, "gic_version vuart tee device_tree arm_sci", ()),
    (_ARM, _NOT_X86, Kind.ANY, "sve", ("disabled", "0")),
    (_ARM, _NOT_X86, Kind.NUMBER, "nr_spis", ()),
    (_ARM, _NOT_X86, Kind.FLAG, "trap_unmapped_accesses", ()),
    ("Size of a page table on Itanium (xm).", _NOT_X86, Kind.NUMBER, "vhpt", ()),
)


def unsupported_keys() -> Iterator[Key]:
    """All of them."""
    for about, reason, kind, names, neutral in _GROUPS:
        for name in names.split():
            example = f"{name} = {kind.example}"
            yield Key(name, kind, Status.ACCEPTED, about, None, example, (), reason, neutral)
