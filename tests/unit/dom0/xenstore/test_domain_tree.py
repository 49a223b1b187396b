"""What a new domain finds, and may do there."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.unit.dom0.xenstore.replaceable import Client
from tests.unit.dom0.xenstore.stores import contents
from xenion.dom0.xenstore.connection import Connection
from xenion.dom0.xenstore.domain_tree import DomainNodes, populate, vm_path
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
def process() -> Iterator[Client]:
    """The domain's process has asked for the tree, over its connection that may write nothing else."""
    made = Client()
    made.store.connect()
    populate(made.client, NODES)
    made.store.settle()
    yield made
    made.close()


@pytest.fixture
def store(process: Client) -> Store:
    return process.store.store


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


def test_the_next_boot_finds_nothing_of_the_one_before(process: Client, store: Store) -> None:
    dom0 = Connection(0)
    store.write(Connection(5), "data/left", b"over")
    store.set_perms(dom0, "/local/domain/5", store.get_perms(dom0, "/"))
    store.write(dom0, "/local/domain/5/device/vbd/1/state", b"4")
    populate(process.client, NODES)
    process.store.settle()
    guest = Connection(5)
    assert store.directory(guest, "data") == ()
    assert store.read(guest, "name") == b"guest"
    assert store.directory(guest, "device") == ("suspend",)
    with pytest.raises(StoreError, match="EACCES"):
        store.write(guest, "new", b"")


def test_a_store_that_comes_back_gets_the_rest(process: Client, store: Store) -> None:
    """Wherever the connection breaks, the tree is whole in the end, and the guest's rights with it."""
    whole = contents(store)["nodes"]
    for part in range(0, 4000, 97):
        populate(process.client, NODES)
        process.store.move(part, part // 2)
        process.store.cut()
        process.store.connect()
        process.store.settle()
        assert contents(store)["nodes"] == whole


def test_everything_of_it_goes_with_the_domain(process: Client, store: Store) -> None:
    store.write(Connection(5), "data/left", b"over")
    store.release(5)
    assert store.directory(Connection(0), "/local/domain") == ()
    assert store.directory(Connection(0), "/vm") == ()


def test_a_kernel_with_the_longest_of_paths_keeps_nobody_from_booting(process: Client, store: Store) -> None:
    populate(process.client, replace(NODES, kernel="/" + "k" * 4094))
    process.store.settle()
    assert store.read(Connection(5), "name") == b"guest"
    assert "kernel" not in store.directory(Connection(0), f"{vm_path(UUID)}/image")
