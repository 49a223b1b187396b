from pathlib import Path

import pytest

from xenion.config.domain import Action, DomainConfig, Processor
from xenion.config.errors import ConfigError
from xenion.config.keys import KEYS, Key, Status
from xenion.config.resolve import resolve
from xenion.config.values import Kind, Value


def resolved(**values: Value) -> DomainConfig:
    return resolve({"kernel": "/boot/vmlinuz"} | values, "fallback")


def test_everything_at_once() -> None:
    config = resolved(
        name="web",
        ramdisk="/boot/initrd",
        memory="0x100",
        vcpus=1,
        processor="software",
        on_poweroff="preserve",
        on_reboot="rename-restart",
        on_crash="coredump-destroy",
        type="pv",
        builder="generic",
    )
    assert config == DomainConfig(
        name="web",
        kernel=Path("/boot/vmlinuz"),
        ramdisk=Path("/boot/initrd"),
        memory_mib=256,
        processor=Processor.SOFTWARE,
        on_poweroff=Action.PRESERVE,
        on_reboot=Action.RENAME_RESTART,
        on_crash=Action.COREDUMP_DESTROY,
    )
    assert config.notes == (
        "on_poweroff: preserve acts as destroy until there is a daemon to do more.",
        "on_reboot: rename-restart acts as restart until there is a daemon to do more.",
        "on_crash: coredump-destroy acts as destroy until there is a daemon to do more.",
    )


def test_defaults_are_those_of_the_configuration_object() -> None:
    assert resolved() == DomainConfig(name="fallback", kernel=Path("/boot/vmlinuz"))
    assert resolved(ramdisk="").ramdisk is None


def test_a_domain_needs_a_kernel_and_a_name() -> None:
    with pytest.raises(ConfigError, match="kernel is missing"):
        resolve({}, "fallback")
    with pytest.raises(ConfigError, match="name is missing"):
        resolve({"kernel": "/k"}, "bad name")


@pytest.mark.parametrize(
    ("values", "cmdline"),
    [
        ({}, ""),
        ({"extra": "quiet"}, "quiet"),
        ({"root": "/dev/xvda1 ro"}, "root=/dev/xvda1 ro"),
        ({"extra": "4", "ip": "192.0.2.9", "root": "/dev/xvda1 ro"}, "root=/dev/xvda1 ro ip=192.0.2.9 4"),
        ({"ip": "dhcp"}, "ip=dhcp"),
        (
            {"ip": "192.0.2.9", "netmask": "255.0.0.0", "gateway": "192.0.2.1", "hostname": "h"},
            "ip=192.0.2.9::192.0.2.1:255.0.0.0:h:eth0:off",
        ),
        ({"dhcp": "dhcp"}, "ip=::::::eth0:dhcp".replace("::::::", ":::::")),
        ({"dhcp": "off", "hostname": "h"}, ""),
        (
            {"root": "/dev/nfs", "nfs_server": "192.0.2.1", "nfs_root": "/srv", "dhcp": "dhcp"},
            "root=/dev/nfs nfsroot=192.0.2.1:/srv ip=:192.0.2.1::::eth0:dhcp",
        ),
        ({"cmdline": "mine", "root": "/dev/xvda1", "extra": "x", "ip": "1"}, "mine"),
        ({"cmdline": "", "root": "/dev/xvda1"}, ""),
        ({"cmdline": None, "root": "/dev/xvda1"}, "root=/dev/xvda1"),
    ],
)
def test_the_command_line(values: dict[str, Value], cmdline: str) -> None:
    assert resolved(**values).cmdline == cmdline


def test_what_the_command_line_leaves_out_is_noted() -> None:
    notes = resolved(cmdline="mine", root="/dev/xvda1", extra="x").notes
    assert [note.split(":")[0] for note in notes] == ["root", "extra"]
    assert resolved(hostname="h").notes[0].startswith("hostname: Without effect")
    assert resolved(hostname="h", ip="1").notes == ()


@pytest.mark.parametrize(
    ("values", "cpus"),
    [
        ({}, ""),
        ({"cpus": "0-3,^1"}, "0-3,^1"),
        ({"cpus": 2}, "2"),
        ({"cpus": ["2-3"]}, "2-3"),
        ({"cpus": []}, ""),
        ({"cpu": 3}, "3"),
        ({"cpu": -1}, ""),
        ({"cpu": 3, "cpus": "0-1"}, "0-1"),
    ],
)
def test_pinning_is_carried_and_noted(values: dict[str, Value], cpus: str) -> None:
    config = resolved(**values)
    assert config.cpus == cpus
    assert bool(config.notes) == bool(cpus)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"memory": "abc"}, "memory must be a whole number, not 'abc'"),
        ({"memory": 0}, "memory must be from 1 to"),
        ({"memory": -5}, "memory must be from 1 to"),
        ({"vcpus": 0}, "vcpus must be at least 1"),
        ({"vcpus": 2}, "vcpus must be 1"),
        ({"maxvcpus": 4}, "maxvcpus must equal vcpus"),
        ({"maxmem": 512}, "maxmem must equal memory"),
        ({"name": "a/b"}, "name must not be 'a/b'"),
        ({"name": 42}, "name must be text, not 42"),
        ({"kernel": ""}, "kernel must not be empty"),
        ({"builder": "hvm"}, "builder must be one of pv, generic, linux, not 'hvm': only para"),
        ({"type": "pvh"}, "type must be one of"),
        ({"processor": "hardware"}, "processor must be one of auto, software"),
        ({"on_crash": "explode"}, "on_crash must be one of destroy, restart"),
        ({"dhcp": "maybe"}, "dhcp must be one of off, dhcp"),
        ({"nfs_root": "/srv"}, "nfs_root needs nfs_server"),
        ({"cpus": ["1", "2"]}, "cpus pins 2 virtual CPUs"),
        ({"cpus": "$(x)"}, "cpus must be a list of CPUs"),
        ({"acpi": "maybe"}, "acpi must be 0 or 1"),
        ({"uuid": 5}, "uuid must be text"),
        ({"disk": "phy:x"}, "disk must be a list"),
        ({"disk": ["phy:x"]}, "disk is not supported yet"),
        ({"vif": [""]}, "vif is not supported yet"),
        ({"vnc": 1}, "vnc is not supported yet"),
        ({"localtime": True}, "localtime is not supported yet"),
        ({"nics": 1}, "nics is not supported yet"),
        ({"bootloader": "pygrub"}, "bootloader is not supported yet"),
        ({"tsc_mode": "native"}, "tsc_mode is not supported yet"),
    ],
)
def test_one_clear_sentence(values: dict[str, Value], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolved(**values)
    assert sentence in str(caught.value)
    assert caught.value.key == next(iter(values))


@pytest.mark.parametrize(
    "values",
    [
        {"maxmem": 0, "maxvcpus": 0},
        {"maxmem": 128, "maxvcpus": 1},
        {"disk": [], "vif": (), "vfb": [], "pci": []},
        {"vnc": 0, "sdl": "0", "localtime": False, "e820_host": 0},
        {"nics": -1, "vcpu_avail": 1, "tsc_mode": "default", "passthrough": "disabled"},
        {"bootloader": "", "cpuid": None, "features": ""},
    ],
)
def test_what_asks_for_nothing_is_accepted(values: dict[str, Value]) -> None:
    assert resolved(**values) == resolved()
    assert resolved(**values).notes == ()


SAMPLES: dict[Kind, Value] = {Kind.NUMBER: 7, Kind.FLAG: 1, Kind.ITEMS: ["x"]}


@pytest.mark.parametrize(
    "key", [key for key in KEYS.values() if key.status is Status.REFUSED], ids=lambda k: k.name
)
def test_refused_keys_are_refused(key: Key) -> None:
    with pytest.raises(ConfigError, match=f"{key.name} is not supported yet"):
        resolved(**{key.name: SAMPLES.get(key.kind, "x")})


@pytest.mark.parametrize(
    "key", [key for key in KEYS.values() if key.status is Status.ACCEPTED], ids=lambda k: k.name
)
def test_accepted_keys_earn_a_note(key: Key) -> None:
    config = resolved(**{key.name: SAMPLES.get(key.kind, "x")})
    assert config.notes == (f"{key.name}: {key.doc}",)
