"""The record of a domain comes back as it was written; its folder comes and goes in one step."""

import json
import os
from pathlib import Path

import pytest

from tests.unit.xend.kit import config, names
from xenion.config.disk import Disk
from xenion.config.vif import Vif
from xenion.xend import record
from xenion.xend.entries import VBD, VIF, DeviceEntry
from xenion.xend.helpers import Helper
from xenion.xend.record import Condition, Record


def test_written_and_read(tmp_path: Path) -> None:
    condition = Condition(n=3, state="crashed", loaded=True, echo=4, notes=["a"], started_at=1.5)
    made = Record(
        "u",
        7,
        "web",
        "old",
        config(tmp_path),
        managed=True,
        lasting=True,
        request="word",
        pid=8,
        began=9,
        successor="web",
        successor_uuid="u2",
        wants=["name"],
        parts=["/x.part"],
        arriving="0a",
        leaving={"id": "0b", "host": "h", "port": 1, "ssl": False, "disks": [{"vdev": "xvda", "size": None}]},
        devices=[
            DeviceEntry(51712, Disk(vdev="xvda", target="/x"), helpers=[Helper("a daemon", 11, 12)]),
            DeviceEntry(0, Vif(mac="00:16:3e:00:00:01"), undo={"bridge": "b"}, coming=True),
        ],
        condition=condition,
    )
    made.write(tmp_path)
    assert Record.read(tmp_path) == made


def test_one_of_before_domains_could_move(tmp_path: Path) -> None:
    """It goes on under the new xend."""
    made = Record("u", 7, "web", "web", config(tmp_path))
    made.write(tmp_path)
    path = tmp_path / record.RECORD
    values = json.loads(path.read_text())
    del values["arriving"], values["leaving"], values["condition"]["loaded"], values["condition"]["echo"]
    path.write_text(json.dumps(values))
    assert Record.read(tmp_path) == made


@pytest.mark.parametrize("device", [{}, {"kind": "usb"}, {"kind": "vbd", "devid": 1}, "vbd"])
def test_a_device_of_another_version_is_refused(tmp_path: Path, device: object) -> None:
    Record("u", 7, "web", "web", config(tmp_path)).write(tmp_path)
    path = tmp_path / record.RECORD
    path.write_text(json.dumps({**json.loads(path.read_text()), "devices": [device]}))
    with pytest.raises(ValueError, match="of another version of Xenion"):
        Record.read(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{}", "3", '{"config": {}, "condition": {}}', '{"config": [}'])
def test_a_record_of_another_version_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / record.RECORD).write_text(text)
    with pytest.raises(ValueError, match=r"."):
        Record.read(tmp_path)


def test_unknown_fields_are_refused(tmp_path: Path) -> None:
    made = Record("u", 7, "web", "web", config(tmp_path))
    made.write(tmp_path)
    path = tmp_path / record.RECORD
    path.write_text(path.read_text().replace('"domid"', '"future": 1, "domid"'))
    with pytest.raises(ValueError, match="of another version of Xenion"):
        Record.read(tmp_path)


def test_wanted_at_most_twice(tmp_path: Path) -> None:
    made = Record("u", 7, "web", "web", config(tmp_path))
    for _ in range(5):
        made.want("core")
    assert made.wants == ["core", "core"]


def test_the_lock_is_held_once(tmp_path: Path) -> None:
    fd = record.lock(tmp_path)
    assert fd is not None
    assert record.lock(tmp_path) is None
    os.close(fd)
    again = record.lock(tmp_path)
    assert again is not None
    os.close(again)


def test_a_folder_comes_and_goes(tmp_path: Path) -> None:
    fresh = record.unfinished(tmp_path, "u")
    (fresh / "x").touch()
    assert record.folders(tmp_path) == []
    assert record.remnants(tmp_path) == [fresh]
    fresh = record.unfinished(tmp_path, "u")
    assert list(fresh.iterdir()) == []
    folder = record.finish(fresh)
    assert folder == tmp_path / "u"
    assert record.folders(tmp_path) == [folder]
    (tmp_path / ".gone-u").mkdir()
    (tmp_path / ".gone-u" / "y").touch()
    record.unfinished(tmp_path, "u")
    record.discard(folder)
    record.discard(folder)
    assert names(tmp_path) == []


def test_a_device_that_changes_has_two_entries(tmp_path: Path) -> None:
    made = Record("u", 7, "web", "web", config(tmp_path))
    old, new = (DeviceEntry(51712, Disk(vdev="xvda", target=target)) for target in ("/old", "/new"))
    made.devices = [old, DeviceEntry(51712, Vif(mac="00:16:3e:00:00:01")), new]
    assert made.entries_of(VBD, 51712) == [old, new]
    assert made.entry_of(VBD, 51712) is old
    assert made.entry_of(VIF, 0) is None
