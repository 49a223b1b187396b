"""A device's entry comes back as it was written; configurations with one device more and one less."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.xend.kit import config
from xenion.config.disk import Disk
from xenion.config.domain import ConfigError
from xenion.config.vif import Vif
from xenion.xend.entries import VBD, VIF, DeviceEntry, with_device, without_device
from xenion.xend.helpers import Helper

DISK = Disk(vdev="xvdb", target="/x", overlay=True)
VIFS = [Vif(mac=f"00:16:3e:00:00:0{n}") for n in (1, 2)]


@pytest.mark.parametrize(
    ("entry", "kind"),
    [
        (DeviceEntry(51728, DISK, helpers=[Helper("a storage daemon", 8, 9)], coming=True), VBD),
        (DeviceEntry(0, VIFS[0], undo={"tap": "xn7.0"}), VIF),
    ],
)
def test_written_and_read(entry: DeviceEntry, kind: str) -> None:
    assert entry.key == (kind, entry.devid)
    assert DeviceEntry.from_mapping(json.loads(json.dumps(entry.to_mapping()))) == entry


@pytest.mark.parametrize(
    "change",
    [
        {"helpers": [{"what": "x", "pid": 1, "began": 2}]},
        {"helpers": [{}]},
        {"kind": "usb"},
        {"config": {"vdev": 1}},
    ],
)
def test_nonsense_is_refused(change: dict[str, object]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        DeviceEntry.from_mapping({**DeviceEntry(51728, DISK).to_mapping(), **change})


def test_a_disk_comes_and_goes(tmp_path: Path) -> None:
    before = config(tmp_path)
    made = with_device(before, DISK)
    assert made.disks == (DISK,)
    with pytest.raises(ConfigError, match="two disks xvdb"):
        with_device(made, DISK)
    changed = DeviceEntry(DISK.devid, replace(DISK, target="/another"))
    assert without_device(made, changed) == before
    assert without_device(before, changed) == before


def test_interfaces_are_told_by_their_address(tmp_path: Path) -> None:
    made = config(tmp_path)
    for vif in VIFS:
        made = with_device(made, vif)
    assert without_device(made, DeviceEntry(7, VIFS[0])).vifs == (VIFS[1],)
