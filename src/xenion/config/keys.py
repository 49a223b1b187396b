"""Every key of a configuration file, declared once: parser, resolver and docs/config.md read this table.

Names and meanings are those of xm (xmdomain.cfg) and xl (xl.cfg). A key that is not acted on never keeps a
domain from starting: a value of it that asks for something earns a note, so that nothing is lost silently.
"""

from __future__ import annotations

from collections.abc import Iterator

from xenion.config.device_keys import device_keys
from xenion.config.domain import DEFAULT_WEIGHT, Action, Processor, XendStart, XendStop
from xenion.config.key import Key, acted
from xenion.config.unsupported import unsupported_keys
from xenion.config.values import Kind

_GUESTS = ("pv", "generic", "linux")
_RESTARTS = ("onreboot", "always", "never")
# What the kernel's ip= parameter takes last; xm passed on whatever it was given.
_AUTOCONFIGURATION = ("off", "dhcp", "none", "on", "any", "bootp", "rarp", "both")
_PROCESSORS = tuple(processor.value for processor in Processor)
_ACTIONS = tuple(action.value for action in Action)
_XEND_STARTS = tuple(start.value for start in XendStart)
_XEND_STOPS = tuple(stop.value for stop in XendStop)


_ACTED = (
    acted(
        "name",
        Kind.TEXT,
        None,
        '"web"',
        "At most 64 letters, digits and `_ . : + -`, not digits alone; else the file's name less its suffix.",
    ),
    acted(
        "uuid",
        Kind.TEXT,
        None,
        '"6ba7b810-9dad-41d1-80b4-00c04fd430c8"',
        "The domain's UUID in its usual form; else one is made when the domain is created.",
    ),
    acted("kernel", Kind.PATH, None, '"/boot/vmlinuz"', "The kernel that is booted. Required."),
    acted("ramdisk", Kind.PATH, None, '"/boot/initrd.img"', "The initial ramdisk."),
    acted(
        "cmdline",
        Kind.TEXT,
        None,
        '"root=/dev/xvda1 ro"',
        "The whole kernel command line (xl); the next ten keys are ignored.",
    ),
    acted("root", Kind.TEXT, None, '"/dev/xvda1 ro"', "Puts `root=VALUE` first on the kernel command line."),
    acted("extra", Kind.TEXT, None, '"quiet"', "Puts its text last on the kernel command line."),
    acted(
        "ip",
        Kind.TEXT,
        None,
        '"192.0.2.10"',
        "Puts `ip=VALUE` on the kernel command line; with one of the next six, all seven fields.",
    ),
    acted("nfs_server", Kind.TEXT, None, '"192.0.2.1"', "Server field of `ip=`, and of `nfsroot=`."),
    acted("gateway", Kind.TEXT, None, '"192.0.2.1"', "Gateway field of `ip=`."),
    acted("netmask", Kind.TEXT, None, '"255.255.255.0"', "Netmask field of `ip=`."),
    acted("hostname", Kind.TEXT, None, '"web"', "Host name field of `ip=`."),
    acted("interface", Kind.TEXT, "eth0", '"eth1"', "Device field of `ip=`."),
    acted(
        "dhcp",
        Kind.TEXT,
        "off",
        '"dhcp"',
        "Last field of `ip=`; other than off, it asks for `ip=` by itself.",
        _AUTOCONFIGURATION,
    ),
    acted(
        "nfs_root",
        Kind.TEXT,
        None,
        '"/srv/guest"',
        "Puts `nfsroot=SERVER:VALUE` on the kernel command line; needs `nfs_server`.",
    ),
    acted("memory", Kind.NUMBER, 128, "256", "Memory in MiB that the guest starts with."),
    acted(
        "maxmem",
        Kind.NUMBER,
        None,
        "512",
        "Most memory in MiB, at least `memory`, which is also the default; `xm mem-set` makes it more and less.",
    ),
    acted("vcpus", Kind.NUMBER, 1, "2", "Number of virtual CPUs that the guest starts with, 64 at most."),
    acted(
        "maxvcpus",
        Kind.NUMBER,
        None,
        "4",
        "Most virtual CPUs, at least `vcpus`, which is also the default; `xm vcpu-set` brings them up and down.",
    ),
    acted(
        "cpu_weight",
        Kind.DECIMAL,
        DEFAULT_WEIGHT,
        "512",
        "Share of the host's CPUs beside other domains: one of twice the weight gets twice as much. With a point, as "
        "Xen 3.0 counts: 1.0 is 256.",
    ),
    acted("cap", Kind.NUMBER, 0, "50", "Most CPU time, in percent of one of the host's CPUs; 0: no limit."),
    acted("cpu_cap", Kind.NUMBER, None, "50", "As `cap` (xm), which wins over it."),
    acted(
        "cpus",
        Kind.ITEM_OR_ITEMS,
        None,
        '"0-3,^1"',
        "Host CPUs that the domain runs on, all its virtual CPUs on the same; of a list, all of it.",
    ),
    acted("cpu", Kind.NUMBER, None, "2", "One host CPU (xm; -1 is any): as `cpus`, which wins over it."),
    acted(
        "processor",
        Kind.TEXT,
        "auto",
        '"software"',
        "What runs the guest's instructions (Xenion's own key).",
        _PROCESSORS,
    ),
    acted(
        "on_poweroff",
        Kind.TEXT,
        "destroy",
        '"preserve"',
        "What becomes of the domain when it powers off.",
        _ACTIONS,
    ),
    acted(
        "on_reboot",
        Kind.TEXT,
        "restart",
        '"destroy"',
        "What becomes of the domain when it reboots.",
        _ACTIONS,
    ),
    acted(
        "on_crash",
        Kind.TEXT,
        "destroy",
        '"coredump-restart"',
        "What becomes of the domain when it crashes.",
        _ACTIONS,
    ),
    acted(
        "on_watchdog",
        Kind.TEXT,
        "destroy",
        '"restart"',
        "What becomes of the domain when its watchdog ends it (xl).",
        _ACTIONS,
    ),
    acted(
        "restart",
        Kind.TEXT,
        None,
        '"onreboot"',
        "What the domain is restarted after, where no `on_...` says it (xm): reboots, every end, or none.",
        _RESTARTS,
    ),
    acted(
        "on_xend_start",
        Kind.TEXT,
        "ignore",
        '"start"',
        "Of a managed domain: what xend does when it starts for the first time after the host did.",
        _XEND_STARTS,
    ),
    acted(
        "on_xend_stop",
        Kind.TEXT,
        "ignore",
        '"shutdown"',
        "Of a managed domain: what becomes of it when xend is stopped.",
        _XEND_STOPS,
    ),
    acted(
        "console_scrollback",
        Kind.NUMBER,
        256,
        "1024",
        "Console output that is kept for those who attach later, in KiB: 16 to 16384 (Xenion's own key).",
    ),
    acted("type", Kind.TEXT, "pv", '"pv"', "Kind of guest (xl).", _GUESTS),
    acted("builder", Kind.TEXT, "linux", '"generic"', "Kind of guest (xm).", _GUESTS),
    acted("pvh", Kind.FLAG, None, "0", "Kind of guest (old xl): 0, as only paravirtualised guests run."),
)


def _all_keys() -> Iterator[Key]:
    yield from _ACTED
    yield from device_keys()
    yield from unsupported_keys()


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
