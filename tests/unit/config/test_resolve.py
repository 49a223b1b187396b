from pathlib import Path

import pytest

from xenion.config.cloud_init import CloudInit
from xenion.config.disk import Disk
from xenion.config.domain import Action, DomainConfig, Processor, XendStart, XendStop
from xenion.config.errors import ConfigError
from xenion.config.key import Key, Status
from xenion.config.keys import KEYS
from xenion.config.resolve import resolve
from xenion.config.values import Kind, Value
from xenion.config.vif import Attachment, Vif

UUID = "6ba7b810-9dad-41d1-80b4-00c04fd430c8"


def resolved(**values: Value) -> DomainConfig:
    return resolve({"kernel": "/boot/vmlinuz"} | values, "fallback")


def test_everything_at_once() -> None:
    config = resolved(
        name="web",
        uuid=UUID.upper(),
        ramdisk="/boot/initrd",
        memory="0x100",
        vcpus=1,
        processor="software",
        on_poweroff="preserve",
        on_reboot="rename-restart",
        on_crash="coredump-destroy",
        on_watchdog="coredump-restart",
        on_xend_start="start",
        on_xend_stop="shutdown",
        console_scrollback=1024,
        type="pv",
        builder="generic",
        pvh=0,
    )
    assert config == DomainConfig(
        name="web",
        uuid=UUID,
        kernel=Path("/boot/vmlinuz"),
        ramdisk=Path("/boot/initrd"),
        memory_mib=256,
        processor=Processor.SOFTWARE,
        on_poweroff=Action.PRESERVE,
        on_reboot=Action.RENAME_RESTART,
        on_crash=Action.COREDUMP_DESTROY,
        on_watchdog=Action.COREDUMP_RESTART,
        on_xend_start=XendStart.START,
        on_xend_stop=XendStop.SHUTDOWN,
        console_scrollback_kib=1024,
    )
    assert config.notes == ()


def test_defaults_are_those_of_the_configuration_object() -> None:
    assert resolved() == DomainConfig(name="fallback", kernel=Path("/boot/vmlinuz"))
    assert resolved(ramdisk="").ramdisk is None


def test_a_domain_needs_a_kernel_and_a_name() -> None:
    with pytest.raises(ConfigError, match="kernel is missing"):
        resolve({}, "fallback")
    with pytest.raises(ConfigError, match="name is missing"):
        resolve({"kernel": "/k"}, "bad name")
    with pytest.raises(ConfigError, match="name is missing"):
        resolve({"kernel": "/k"}, "7")
    with pytest.raises(ConfigError, match=r"kernel is missing: .*a boot loader is not supported yet"):
        resolve({"bootloader": "pygrub"}, "fallback")


@pytest.mark.parametrize(
    ("values", "cmdline"),
    [
        ({}, ""),
        ({"extra": "quiet"}, "quiet"),
        ({"root": "/dev/xvda1 ro"}, "root=/dev/xvda1 ro"),
        ({"extra": "4", "ip": "192.0.2.9", "root": "/dev/xvda1 ro"}, "root=/dev/xvda1 ro ip=192.0.2.9 4"),
        ({"root": "root=/dev/xvda1", "ip": "ip=192.0.2.9"}, "root=/dev/xvda1 ip=192.0.2.9"),
        ({"ip": "ip=192.0.2.9", "hostname": "h"}, "ip=192.0.2.9::::h:eth0:off"),
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
    assert resolved(hostname="h").notes[0].startswith("hostname: without effect")
    assert resolved(hostname="h", ip="1").notes == ()


@pytest.mark.parametrize(
    ("values", "ends"),
    [
        ({"restart": "onreboot"}, "destroy restart destroy"),
        ({"restart": "always"}, "restart restart restart"),
        ({"restart": "never"}, "destroy destroy destroy"),
        ({"restart": "always", "on_crash": "preserve"}, "restart restart preserve"),
        ({"restart": None}, "destroy restart destroy"),
    ],
)
def test_the_old_restart_says_it_for_three_ends(values: dict[str, Value], ends: str) -> None:
    config = resolved(**values)
    assert f"{config.on_poweroff} {config.on_reboot} {config.on_crash}" == ends
    assert config.on_watchdog is Action.DESTROY
    assert config.notes == ()


@pytest.mark.parametrize(
    ("values", "weight", "cap"),
    [
        ({}, 256, 0),
        ({"cpu_weight": 512, "cap": 50}, 512, 50),
        ({"cpu_weight": 0.5, "cpu_cap": 20}, 128, 20),
        ({"cpu_weight": 1.0, "cap": 10, "cpu_cap": 20}, 256, 10),
    ],
)
def test_shares_of_the_cpus(values: dict[str, Value], weight: int, cap: int) -> None:
    config = resolved(**values)
    assert (config.cpu_weight, config.cap, config.notes) == (weight, cap, ())


@pytest.mark.parametrize(
    ("values", "cpus"),
    [
        ({}, ""),
        ({"cpus": "0-3,^1"}, "0-3,^1"),
        ({"cpus": 2}, "2"),
        ({"cpus": ["2-3"]}, "2-3"),
        ({"cpus": ["0", "2-3"], "vcpus": 2}, "0,2-3"),
        ({"cpus": []}, ""),
        ({"cpu": 3}, "3"),
        ({"cpu": -1}, ""),
        ({"cpu": 3, "cpus": "0-1"}, "0-1"),
    ],
)
def test_pinning(values: dict[str, Value], cpus: str) -> None:
    config = resolved(**values)
    assert config.cpus == cpus
    assert config.notes == ()


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"memory": "abc"}, "memory must be a whole number, not 'abc'"),
        ({"memory": 0}, "memory must be from 1 to"),
        ({"memory": -5}, "memory must be from 1 to"),
        ({"vcpus": 0}, "vcpus must be from 1 to 64"),
        ({"vcpus": 65}, "vcpus must be from 1 to 64"),
        ({"maxvcpus": -1}, "maxvcpus must be from 1 to 64, not -1"),
        ({"maxvcpus": 2, "vcpus": 3}, "maxvcpus must be at least vcpus (3), not 2: raise it"),
        ({"maxmem": 127}, "maxmem must be at least memory (128), not 127"),
        ({"name": "a/b"}, "name must not be 'a/b'"),
        ({"name": 42}, "name must be text, not 42"),
        ({"name": "42"}, "name must not be '42': digits alone are a domain's id"),
        ({"name": "domain-0"}, "name must not be 'domain-0': it is the host's own name"),
        ({"kernel": ""}, "kernel must not be empty"),
        ({"builder": "hvm"}, "builder must be one of pv, generic, linux, not 'hvm': only para"),
        ({"type": "pvh"}, "type must be one of pv, generic, linux, not 'pvh': only para"),
        ({"pvh": 1}, "pvh must be 0: only paravirtualised guests are supported"),
        ({"processor": "fast"}, "processor must be one of auto, software, hardware"),
        ({"on_crash": "explode"}, "on_crash must be one of destroy, restart"),
        ({"dhcp": "maybe"}, "dhcp must be one of off, dhcp"),
        ({"nfs_root": "/srv"}, "nfs_root needs nfs_server"),
        ({"cpus": ["1", "2"]}, "cpus pins 2 virtual CPUs"),
        ({"cpus": "$(x)"}, "cpus must be a list of CPUs"),
        ({"acpi": "maybe"}, "acpi must be 0 or 1"),
        ({"uuid": 5}, "uuid must be text"),
        ({"disk": "phy:x"}, "disk must be a list"),
        ({"cpu_weight": 1e300}, "cpu_weight must be from 1 to 65535"),
        ({"cpu_weight": "heavy"}, "cpu_weight must be a number, not 'heavy'"),
        ({"uuid": "web"}, "uuid must not be 'web'"),
        ({"restart": "maybe"}, "restart must be one of onreboot, always, never"),
        ({"on_watchdog": "ignore"}, "on_watchdog must be one of destroy"),
        ({"on_xend_start": "always"}, "on_xend_start must be one of ignore, start, not 'always'"),
        (
            {"on_xend_stop": "stop"},
            "on_xend_stop must be one of ignore, shutdown, destroy, suspend, not 'stop'",
        ),
        ({"disk": ["/a,raw,xvda"] * 2}, "there are two disks xvda"),
        ({"disk": [5]}, "disk '5': the virtual disk is missing"),
        ({"vif": ["bridge=x,user"]}, "vif 'bridge=x,user': bridge and user exclude each other"),
        ({"vif": ["devid=1"]}, "devid is the interface's place"),
        ({"nics": 33}, "nics must be at most 32"),
        ({"cloud_ssh_keys": ["x"]}, "cloud_ssh_keys must be public keys"),
        ({"console_scrollback": 8}, "console_scrollback must be from 16 to 16384 KiB, not 8"),
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
        {"disk": [], "vif": (), "vfb": [], "pci": []},
        {"vnc": 0, "sdl": "0", "localtime": False, "e820_host": 0},
        {"nics": -1, "cpu": -1, "vcpu_avail": 1, "tsc_mode": "default", "passthrough": "disabled"},
        {"ssidref": 0, "guest_os_type": "default", "tpmif": "no", "usb": "no", "timer_mode": "0"},
        {"bootloader": "", "cpuid": None, "features": ""},
    ],
)
def test_what_asks_for_nothing_is_accepted(values: dict[str, Value]) -> None:
    assert resolved(**values) == resolved()
    assert resolved(**values).notes == ()


SAMPLES: dict[Kind, Value] = {Kind.NUMBER: 700, Kind.DECIMAL: 1.5, Kind.FLAG: 1, Kind.ITEMS: ["x"]}


@pytest.mark.parametrize(
    "key", [key for key in KEYS.values() if key.status is Status.ACCEPTED], ids=lambda k: k.name
)
def test_accepted_keys_earn_a_note(key: Key) -> None:
    value = "0-3" if key.name == "cpus" else SAMPLES.get(key.kind, "x")
    config = resolved(**{key.name: value})
    assert config.notes == (key.note,)
    assert config.notes[0].startswith(f"{key.name}: not supported yet")


@pytest.mark.parametrize(
    ("values", "note"),
    [
        ({"vif2": ["x"]}, "vif2: not supported yet: use vif"),
        ({"cdrom": "/x.iso"}, "cdrom: not supported yet: use disk"),
        ({"vnc": 1}, "vnc: not supported yet: there is no virtual display"),
        ({"videoram": 8}, "videoram: not supported yet: without effect on a paravirtualised guest"),
        ({"latency": 512}, "latency: not supported yet"),
        (
            {"bootloader": "pygrub"},
            "bootloader: not supported yet: the guest boots the file that kernel names",
        ),
    ],
)
def test_a_note_says_what_the_guest_does_without(values: dict[str, Value], note: str) -> None:
    assert resolved(**values).notes == (note,)
    assert resolved(**values) == resolved()


def test_disks_and_interfaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = resolved(
        disk=["file:a.img,xvda,w", "/b,,xvdb,ro,untrusted"],
        vif=["", "model=e1000,bridge=br0,devid=1"],
        nics=3,
    )
    assert config.disks == (
        Disk(target=f"{tmp_path}/a.img", vdev="xvda"),
        Disk(target="/b", vdev="xvdb", writable=False),
    )
    assert config.vifs == (Vif(), Vif(attachment=Attachment.BRIDGE, network="br0"), Vif())
    assert config.notes == (
        "disk: xvdb: untrusted has no effect: the guest's front end is not told",
        "vif: model has no effect: without effect on a paravirtualised guest",
    )


@pytest.mark.parametrize("values", [{}, {"cloud_hostname": ""}, {"cloud_ssh_keys": []}])
def test_no_data_for_cloud_init(values: dict[str, Value]) -> None:
    assert resolved(**values).cloud_init is None


def test_data_for_cloud_init() -> None:
    key = "ssh-ed25519 AAAAAAAA me"
    config = resolved(
        cloud_user_data="/u", cloud_network_config="/n", cloud_hostname="h", cloud_ssh_keys=[key]
    )
    assert config.cloud_init == CloudInit(
        user_data=Path("/u"), network_config=Path("/n"), hostname="h", ssh_keys=(key,)
    )
    assert resolved(cloud_meta_data="/m").cloud_init == CloudInit(meta_data=Path("/m"))
