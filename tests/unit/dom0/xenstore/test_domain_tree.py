"""What a new domain finds, and may do there."""

import pytest

from xenion.dom0.xenstore.connection import Connection, Event
from xenion.dom0.xenstore.domain_tree import DomainNodes, populate, remove, vm_path
from xenion.dom0.xenstore.errors import StoreError
from xenion.dom0.xenstore.store import Store

UUID = "00000000-1111-2222-3333-444444444444"
NODES = DomainNodes(
    domid=5,
    name="guest",
    uuid=UUID,
    memory_target_kib=131072,
    memory_static_max_kib=262144,
    vcpus=2,
    vcpus_online=1,
    console_mfn=1001,
    console_port=2,
    store_mfn=1000,
    store_port=1,
    start_time=1700000000.129,
    kernel="/boot/vmlinuz",
    cmdline="console=hvc0",
)


@pytest.fixture
def store() -> Store:
    made = Store()
    populate(made, Connection(0), NODES)
    return made


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("name", "guest"),
        ("domid", "5"),
        ("vm", f"/vm/{UUID}"),
        ("memory/target", "131072"),
        ("memory/static-max", "262144"),
        ("cpu/0/availability", "online"),
        ("cpu/1/availability", "offline"),
        ("console/ring-ref", "1001"),
        ("console/port", "2"),
        ("console/limit", "1048576"),
        ("console/type", "xenconsoled"),
        ("console/tty", ""),
        ("store/ring-ref", "1000"),
        ("store/port", "1"),
        ("control/platform-feature-multiprocessor-suspend", "1"),
        ("control/platform-feature-xs_reset_watches", "1"),
    ],
)
def test_the_guest_reads_but_does_not_write(store: Store, path: str, value: str) -> None:
    guest = Connection(5)
    assert store.read(guest, path) == value.encode()
    with pytest.raises(StoreError, match="EACCES"):
        store.write(guest, path, b"forged")
    with pytest.raises(StoreError, match="EACCES"):
        store.remove(guest, path)
    with pytest.raises(StoreError, match="EACCES"):
        store.read(Connection(6), f"/local/domain/5/{path}")


DATA = [
    "data/any/thing",
    "drivers/0",
    "feature/hotplug/vif",
    "attr/vif/0/name",
    "error",
    "error/device/vbd/1",
]
CONTROL = ["control/shutdown", "control/sysrq", "control/feature-suspend", "device/suspend/event-channel"]


@pytest.mark.parametrize("path", DATA + CONTROL)
def test_where_the_guest_writes(store: Store, path: str) -> None:
    guest = Connection(5)
    store.write(guest, path, b"1")
    assert store.read(guest, path) == b"1"


@pytest.mark.parametrize("path", ["new", "device/vif/0", "control/new", "console/new", "cpu/2/availability"])
def test_where_the_guest_creates_nothing(store: Store, path: str) -> None:
    with pytest.raises(StoreError, match="EACCES"):
        store.write(Connection(5), path, b"")


def test_the_vm_path_is_for_the_toolstack(store: Store) -> None:
    dom0 = Connection(0)
    found = {
        name: store.read(dom0, f"{vm_path(UUID)}/{name}") for name in store.directory(dom0, vm_path(UUID))
    }
    assert found == {
        "name": b"guest",
        "uuid": UUID.encode(),
        "start_time": b"1700000000.13",
        "on_poweroff": b"destroy",
        "on_reboot": b"restart",
        "on_crash": b"destroy",
        "image": b"",
    }
    assert store.directory(dom0, f"{vm_path(UUID)}/image") == ("ostype", "kernel", "cmdline")
    with pytest.raises(StoreError, match="EACCES"):
        store.read(Connection(5), f"{vm_path(UUID)}/name")


def test_a_new_domain_finds_nothing_of_a_former_one(store: Store) -> None:
    dom0 = Connection(0)
    store.write(Connection(5), "data/left", b"over")
    store.set_perms(dom0, "/local/domain/5", store.get_perms(dom0, "/"))
    populate(store, dom0, NODES)
    assert store.directory(Connection(5), "data") == ()
    assert store.read(Connection(5), "name") == b"guest"


def test_removing_takes_everything(store: Store) -> None:
    dom0 = Connection(0)
    watcher = Connection(0)
    store.write(Connection(5), "data/left", b"over")
    store.watch(watcher, "/local/domain/5/data/left", b"t")
    watcher.events()
    remove(store, dom0, 5, UUID)
    remove(store, dom0, 5, UUID)
    assert store.directory(dom0, "/local/domain") == ()
    assert store.directory(dom0, "/vm") == ()
    assert Event("/local/domain/5/data/left", b"t") in watcher.events()
    store.release(5)
