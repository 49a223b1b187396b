"""The paths that a new domain finds in the store, and its rights there (docs/misc/xenstore-paths.pandoc)."""

from collections.abc import Iterator
from dataclasses import dataclass

from xenion.dom0.xenstore.client import StoreClient
from xenion.dom0.xenstore.paths import domain_path
from xenion.dom0.xenstore.perms import READ, Perm, Perms

DOM0_ONLY: Perms = (Perm(0, 0),)

# Nodes that the guest owns.
_WRITABLE = (
    "device/suspend/event-channel",
    "control/shutdown",
    "control/feature-poweroff",
    "control/feature-reboot",
    "control/feature-suspend",
    "control/sysrq",
    "data",
    "drivers",
    "feature",
    "attr",
    "error",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainNodes:
    """What the store tells a PV domain about itself, and the toolstack about the domain."""

    domid: int
    name: str
    uuid: str
    memory_target_kib: int
    memory_static_max_kib: int
    vcpus: int
    """The configured maximum; one availability node each."""
    vcpus_online: int
    console_mfn: int
    """``console/ring-ref``: for a PV domain the machine frame of the ring, not a grant."""
    console_port: int
    store_mfn: int
    store_port: int
    start_time: float
    """Seconds since the epoch."""
    console_limit: int = 1 << 20
    """Bytes of output that the console server buffers."""
    console_tty: str = ""
    on_poweroff: str = "destroy"
    on_reboot: str = "restart"
    on_crash: str = "destroy"
    kernel: str = ""
    ramdisk: str = ""
    cmdline: str = ""


def vm_path(uuid: str) -> str:
    """Where the toolstack keeps what the guest does not see."""
    return f"/vm/{uuid}"


def populate(store: StoreClient, nodes: DomainNodes) -> None:
    """Asks for the tree of a domain that boots; whatever an earlier boot has left there goes."""
    home, vm = domain_path(nodes.domid), vm_path(nodes.uuid)
    _make(store, home, (Perm(0, 0), Perm(nodes.domid, READ)))
    _make(store, vm, DOM0_ONLY)
    for path, value in _guest_values(nodes):
        store.write(f"{home}/{path}", value)
    for path in _WRITABLE:
        store.mkdir(f"{home}/{path}")
        store.set_perms(f"{home}/{path}", (Perm(nodes.domid, 0),))
    for path, value in _vm_values(nodes):
        store.write(f"{vm}/{path}", value)


def _make(store: StoreClient, path: str, perms: Perms) -> None:
    """An empty node with these permissions, which everything created below it inherits."""
    store.remove(path)
    store.mkdir(path)
    store.set_perms(path, perms)


def _guest_values(nodes: DomainNodes) -> Iterator[tuple[str, str]]:
    """Below the domain's home: readable to the guest."""
    yield "vm", vm_path(nodes.uuid)
    yield "name", nodes.name
    yield "domid", str(nodes.domid)
    yield "memory/static-max", str(nodes.memory_static_max_kib)
    yield "memory/target", str(nodes.memory_target_kib)
    for vcpu in range(nodes.vcpus):
        yield f"cpu/{vcpu}/availability", "online" if vcpu < nodes.vcpus_online else "offline"
    yield "console/ring-ref", str(nodes.console_mfn)
    yield "console/port", str(nodes.console_port)
    yield "console/limit", str(nodes.console_limit)
    yield "console/type", "xenconsoled"
    yield "console/output", "pty"
    yield "console/tty", nodes.console_tty
    yield "store/ring-ref", str(nodes.store_mfn)
    yield "store/port", str(nodes.store_port)
    yield "control/platform-feature-multiprocessor-suspend", "1"
    yield "control/platform-feature-xs_reset_watches", "1"


def _vm_values(nodes: DomainNodes) -> Iterator[tuple[str, str]]:
    """Below the VM's path: for the toolstack only."""
    yield "name", nodes.name
    yield "uuid", nodes.uuid
    yield "start_time", f"{nodes.start_time:.2f}"
    yield "on_poweroff", nodes.on_poweroff
    yield "on_reboot", nodes.on_reboot
    yield "on_crash", nodes.on_crash
    yield "image/ostype", "linux"
    yield "image/kernel", nodes.kernel
    if nodes.ramdisk:
        yield "image/ramdisk", nodes.ramdisk
    if nodes.cmdline:
        yield "image/cmdline", nodes.cmdline
