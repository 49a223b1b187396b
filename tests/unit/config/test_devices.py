import pytest

from xenion.config.devices import DISKS_MAX, VIFS_MAX, check_disks, check_vifs
from xenion.config.disk import Disk
from xenion.config.errors import ConfigError
from xenion.config.vdev import name_of
from xenion.config.vif import Forward, Vif


def disks(count: int) -> list[Disk]:
    return [Disk(target="/a", vdev=name_of(1 << 28 | 16 + n << 8)) for n in range(count)]


def test_disks_have_each_a_virtual_disk_of_its_own() -> None:
    check_disks([])
    check_disks([Disk(target="/a", vdev="xvda"), Disk(target="/a", vdev="xvdb")])
    with pytest.raises(ConfigError, match="there are two disks xvda: give each its own virtual disk"):
        check_disks([Disk(target="/a", vdev="xvda"), Disk(target="/b", vdev="xvda")])


def test_there_are_not_too_many() -> None:
    check_disks(disks(DISKS_MAX))
    with pytest.raises(ConfigError, match="more than 128 disks"):
        check_disks(disks(DISKS_MAX + 1))
    check_vifs([Vif()] * VIFS_MAX)
    with pytest.raises(ConfigError, match="more than 32 network interfaces"):
        check_vifs([Vif()] * (VIFS_MAX + 1))


def test_interfaces_have_each_a_mac_and_ports_of_their_own() -> None:
    mac = "00:16:3e:00:00:01"
    with pytest.raises(ConfigError, match=f"there are two network interfaces {mac}"):
        check_vifs([Vif(mac=mac), Vif(), Vif(mac=mac)])
    forward = Forward(protocol="tcp", host_address="127.0.0.1", host_port=80, guest_port=80)
    with pytest.raises(ConfigError, match=r"vif: tcp port 80 of 127\.0\.0\.1 is forwarded twice") as caught:
        check_vifs([Vif(forwards=(forward,)), Vif(forwards=(forward,))])
    assert caught.value.key == "vif"
