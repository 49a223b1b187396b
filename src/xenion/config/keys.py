"""Every key of a configuration file, declared once: parser, resolver and docs/config.md read this table.

Names and meanings are those of xm (xmdomain.cfg) and xl (xl.cfg). `Status.REFUSED` keys would change what the
guest gets, so a value that asks for something is an error; `Status.ACCEPTED` keys only earn a note.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from xenion.config.domain import Action, Processor
from xenion.config.values import Kind, Value


class Status(Enum):
    """What Xenion does with a key."""

    ACTED = "acted on"
    ACCEPTED = "accepted with a note"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Key:
    """One key. `default` None means that the key has none, `choices` () that any value of the kind will do.

    `neutral` holds the values of a refused key that ask for nothing, beside the empty ones (0, "", [], None).
    """

    name: str
    kind: Kind
    status: Status
    doc: str
    default: Value = None
    example: str = ""
    choices: tuple[str, ...] = ()
    neutral: tuple[Value, ...] = ()


_GUESTS = ("pv", "generic", "linux")
_PROCESSORS = tuple(processor.value for processor in Processor)
_ACTIONS = tuple(action.value for action in Action)


def _acted(
    name: str, kind: Kind, default: Value, example: str, doc: str, choices: tuple[str, ...] = ()
) -> Key:
    return Key(name, kind, Status.ACTED, doc, default, f"{name} = {example}", choices)


_ACTED = (
    _acted(
        "name",
        Kind.TEXT,
        None,
        '"web"',
        "At most 64 letters, digits and `_ . : + -`; else the file's name less its suffix.",
    ),
    _acted("kernel", Kind.PATH, None, '"/boot/vmlinuz"', "The kernel that is booted. Required."),
    _acted("ramdisk", Kind.PATH, None, '"/boot/initrd.img"', "The initial ramdisk."),
    _acted(
        "cmdline",
        Kind.TEXT,
        None,
        '"root=/dev/xvda1 ro"',
        "The whole kernel command line (xl); the next ten keys are ignored.",
    ),
    _acted("root", Kind.TEXT, None, '"/dev/xvda1 ro"', "Puts `root=VALUE` first on the kernel command line."),
    _acted("extra", Kind.TEXT, None, '"quiet"', "Puts its text last on the kernel command line."),
    _acted(
        "ip",
        Kind.TEXT,
        None,
        '"192.0.2.10"',
        "Puts `ip=VALUE` on the kernel command line; with one of the next six, all seven fields.",
    ),
    _acted("nfs_server", Kind.TEXT, None, '"192.0.2.1"', "Server field of `ip=`, and of `nfsroot=`."),
    _acted("gateway", Kind.TEXT, None, '"192.0.2.1"', "Gateway field of `ip=`."),
    _acted("netmask", Kind.TEXT, None, '"255.255.255.0"', "Netmask field of `ip=`."),
    _acted("hostname", Kind.TEXT, None, '"web"', "Host name field of `ip=`."),
    _acted("interface", Kind.TEXT, "eth0", '"eth1"', "Device field of `ip=`."),
    _acted(
        "dhcp",
        Kind.TEXT,
        "off",
        '"dhcp"',
        "Last field of `ip=`; other than off, it asks for `ip=` by itself.",
        ("off", "dhcp"),
    ),
    _acted(
        "nfs_root",
        Kind.TEXT,
        None,
        '"/srv/guest"',
        "Puts `nfsroot=SERVER:VALUE` on the kernel command line; needs `nfs_server`.",
    ),
    _acted("memory", Kind.NUMBER, 128, "256", "Memory in MiB."),
    _acted("maxmem", Kind.NUMBER, None, "256", "Most memory in MiB: equal to `memory`, or 0, for now."),
    _acted("vcpus", Kind.NUMBER, 1, "1", "Number of virtual CPUs: 1 for now."),
    _acted("maxvcpus", Kind.NUMBER, None, "1", "Most virtual CPUs: equal to `vcpus`, or 0, for now."),
    _acted(
        "processor",
        Kind.TEXT,
        "auto",
        '"software"',
        "What runs the guest's instructions (Xenion's own key).",
        _PROCESSORS,
    ),
    _acted(
        "on_poweroff",
        Kind.TEXT,
        "destroy",
        '"preserve"',
        "What becomes of the domain when it powers off.",
        _ACTIONS,
    ),
    _acted(
        "on_reboot",
        Kind.TEXT,
        "restart",
        '"destroy"',
        "What becomes of the domain when it reboots.",
        _ACTIONS,
    ),
    _acted(
        "on_crash",
        Kind.TEXT,
        "destroy",
        '"coredump-restart"',
        "What becomes of the domain when it crashes.",
        _ACTIONS,
    ),
    _acted("type", Kind.TEXT, "pv", '"pv"', "Kind of guest (xl).", _GUESTS),
    _acted("builder", Kind.TEXT, "linux", '"generic"', "Kind of guest (xm).", _GUESTS),
)

_PINNING = (
    Key(
        "cpus",
        Kind.ITEM_OR_ITEMS,
        Status.ACCEPTED,
        "Host CPUs that the domain is pinned to: kept, not acted on yet.",
        example='cpus = "0-3,^1"',
    ),
    Key(
        "cpu",
        Kind.NUMBER,
        Status.ACCEPTED,
        "One host CPU that the domain is pinned to (xm; -1 is any): as `cpus`, which wins over it.",
        example="cpu = 2",
    ),
)

_LATER = "Not acted on yet."
_NOT_PV = "Without effect on a paravirtualised guest."
_DISPLAY = "Without effect: there is no virtual display."

_ACCEPTED: tuple[tuple[str, Kind, str], ...] = (
    (_LATER, Kind.NUMBER, "cpu_weight cpu_cap cap period slice latency extratime"),
    (
        _LATER,
        Kind.TEXT,
        "uuid pool seclabel init_seclabel on_watchdog on_soft_reset on_xend_start on_xend_stop",
    ),
    (_LATER, Kind.NUMBER, "max_grant_frames max_maptrack_frames max_grant_version max_event_channels"),
    (
        _LATER,
        Kind.FLAG,
        "nomigrate vncviewer xend_suspend_evtchn_compat suppress_spurious_page_faults s3_integrity",
    ),
    (_LATER, Kind.ITEM_OR_ITEMS, "cpus_soft"),
    (_DISPLAY, Kind.TEXT, "vnclisten vncpasswd display xauthority keymap"),
    (_DISPLAY, Kind.NUMBER, "vncdisplay"),
    (_DISPLAY, Kind.FLAG, "vncunused vncconsole opengl"),
    (
        _NOT_PV,
        Kind.FLAG,
        "pae acpi acpi_s3 acpi_s4 acpi_laptop_slate apic nx hpet hap oos vpt_align nestedhvm altp2mhvm",
    ),
    (
        _NOT_PV,
        Kind.FLAG,
        "xen_platform_pci stdvga nographic usb vkb_device dm_restrict vpmu msr_relaxed pvshim",
    ),
    (
        _NOT_PV,
        Kind.FLAG,
        "spice spicedisable_ticketing spiceagent_mouse spicevdagent spice_clipboard_sharing",
    ),
    (_NOT_PV, Kind.NUMBER, "shadow_memory videoram mmio_hole usbversion stubdomain_memory rdm_mem_boundary"),
    (_NOT_PV, Kind.NUMBER, "spiceport spicetls_port spiceusbredirection"),
    (
        _NOT_PV,
        Kind.TEXT,
        "boot bios bios_path_override hdtype vga soundhw acpi_firmware smbios_firmware ms_vm_genid",
    ),
    (
        _NOT_PV,
        Kind.TEXT,
        "device_model device_model_version device_model_override device_model_user vendor_device",
    ),
    (
        _NOT_PV,
        Kind.TEXT,
        "device_model_stubdomain_seclabel stubdomain_kernel stubdomain_cmdline stubdomain_ramdisk",
    ),
    (
        _NOT_PV,
        Kind.TEXT,
        "pvshim_path pvshim_cmdline pvshim_extra spicehost spicepasswd spice_image_compression",
    ),
    (_NOT_PV, Kind.TEXT, "spice_streaming_video rdm gic_version vuart tee device_tree"),
    (_NOT_PV, Kind.FLAG, "device_model_stubdomain_override"),
    (_NOT_PV, Kind.ANY, "viridian timer_mode altp2m gfx_passthru serial usbdevice mca_caps"),
    (_NOT_PV, Kind.ANY, "device_model_args device_model_args_pv device_model_args_hvm"),
)

_REFUSED: tuple[tuple[str, Kind, str, tuple[Value, ...]], ...] = (
    ("Virtual disks.", Kind.ITEMS, "disk", ()),
    ("Virtual network interfaces.", Kind.ITEMS, "vif", ()),
    ("Number of virtual network interfaces (xm).", Kind.NUMBER, "nics", (-1,)),
    ("A virtual display.", Kind.ITEMS, "vfb", ()),
    ("A virtual display.", Kind.FLAG, "vnc sdl", ()),
    ("Virtual devices.", Kind.ITEMS, "vtpm vscsi vusb p9 pvcalls channel vkb vsnd vdispl usbctrl usbdev", ()),
    ("Host devices in the guest.", Kind.ITEMS, "pci irq irqs ioports iomem dtdev", ()),
    ("Host devices in the guest.", Kind.FLAG, "pci_permissive pci_msitranslate pci_seize pci_power_mgmt", ()),
    ("Host devices in the guest.", Kind.TEXT, "passthrough", ("disabled", "default", "0")),
    ("A boot loader that reads the guest's disk.", Kind.TEXT, "bootloader bootentry bootargs firmware", ()),
    ("A boot loader that reads the guest's disk.", Kind.ITEM_OR_ITEMS, "bootloader_args", ()),
    ("The host's memory map in the guest.", Kind.FLAG, "e820_host", ()),
    ("Virtual NUMA nodes.", Kind.ITEMS, "vnuma", ()),
    ("CPU features shown to the guest.", Kind.ANY, "cpuid", ()),
    ("Features required of the guest.", Kind.TEXT, "features", ()),
    ("How the guest reads the time-stamp counter.", Kind.ANY, "tsc_mode", ("default", "0")),
    ("A clock in local time.", Kind.FLAG, "localtime", ()),
    ("An offset of the guest's clock, in seconds.", Kind.NUMBER, "rtc_timeoffset", ()),
    ("Mask of the virtual CPUs that are online (xm).", Kind.NUMBER, "vcpu_avail", (1,)),
    ("A processor trace buffer, in KiB.", Kind.NUMBER, "vmtrace_buf_kb", ()),
    ("Guest memory in superpages (xm).", Kind.FLAG, "superpages", ()),
    ("Highest machine address width, in bits (xm).", Kind.NUMBER, "machine_address_size", ()),
    ("A domain that serves devices to others.", Kind.FLAG, "driver_domain blkif netif tpmif", ()),
)


def _all_keys() -> Iterator[Key]:
    yield from _ACTED
    yield from _PINNING
    for doc, kind, names in _ACCEPTED:
        for name in names.split():
            yield Key(name, kind, Status.ACCEPTED, doc)
    for doc, kind, names, neutral in _REFUSED:
        for name in names.split():
            yield Key(name, kind, Status.REFUSED, doc, neutral=neutral)


KEYS: dict[str, Key] = {key.name: key for key in _all_keys()}


def suggestion(name: str) -> str:
    """`: did you mean X?` with the known key nearest to `name`, or nothing."""
    # difflib is quadratic in the length of a name, which a stranger chose.
    if len(name) > 2 * max(map(len, KEYS)):
        return ""
    from difflib import get_close_matches

    begun = sorted((key for key in KEYS if len(name) > 2 and key.startswith(name)), key=len)
    nearest = begun or get_close_matches(name, KEYS, n=1, cutoff=0.7)
    return f": did you mean {nearest[0]}?" if nearest else ""


def _row(key: Key) -> str:
    literal = (
        ""
        if key.default is None
        else f'`"{key.default}"`'
        if isinstance(key.default, str)
        else f"`{key.default}`"
    )
    choices = f" One of {', '.join(f'`{choice}`' for choice in key.choices)}." if key.choices else ""
    example = f"`{key.example or f'{key.name} = {key.kind.example}'}`"
    cells = (f"`{key.name}`", key.kind.value, literal, example, key.status.value, key.doc + choices)
    return f"| {' | '.join(cells)} |"


def reference() -> str:
    """The table of all keys as Markdown, exactly as docs/config.md contains it."""
    head = "| Key | Type | Default | Example | Status | Effect |\n|---|---|---|---|---|---|\n"
    return head + "".join(f"{_row(key)}\n" for key in KEYS.values())
