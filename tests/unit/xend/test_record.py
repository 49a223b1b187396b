"""The record of a domain comes back as it was written; its folder comes and goes in one step."""

import os
from pathlib import Path
from typing import Any

import pytest

from tests.unit.xend.kit import config, names
from xenion.config.domain import ConfigError
from xenion.xend import record
from xenion.xend.record import (
    VBD,
    VIF,
    Condition,
    Record,
    entries_of,
    entry_of,
    with_device,
    without_device,
)


def entry(kind: str, devid: int, **config: Any) -> dict[str, Any]:
    return {"kind": kind, "devid": devid, "config": config, "helpers": [], "undo": {}, "coming": False}


def test_written_and_read(tmp_path: Path) -> None:
    condition = Condition(n=3, state="crashed", notes=["a"], started_at=1.5)
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
        devices=[entry("vbd", 51712, vdev="xvda", target="/x")],
        condition=condition,
    )
    made.write(tmp_path)
    assert Record.read(tmp_path) == made


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


def test_devices_come_into_the_configuration_and_out_of_it(tmp_path: Path) -> None:
    made = Record("u", 7, "web", "web", config(tmp_path))
    disk = {"vdev": "xvdb", "target": "/x"}
    vifs = [{"mac": f"00:16:3e:00:00:0{n}"} for n in (1, 2)]
    made.config = with_device(made, VBD, disk)
    with pytest.raises(ConfigError, match="two disks xvdb"):
        with_device(made, VBD, disk)
    for devid, vif in enumerate(vifs):
        made.config = with_device(made, VIF, vif)
        made.devices.append(entry(VIF, devid, **vif))
    assert [disk.vdev for disk in made.config.disks] == ["xvdb"]
    made.config = without_device(made, VIF, 0)
    made.config = without_device(made, VIF, 7)
    assert [vif.mac for vif in made.config.vifs] == [vifs[1]["mac"]]
    made.config = without_device(made, VBD, 51728)
    assert made.config.disks == ()


def test_a_device_that_changes_has_two_entries(tmp_path: Path) -> None:
    made = Record("u", 7, "web", "web", config(tmp_path))
    old, new = entry(VBD, 51712, target="/old"), entry(VBD, 51712, target="/new")
    made.devices = [old, entry(VIF, 51712), new]
    assert entries_of(made, VBD, 51712) == [old, new]
    assert entry_of(made, VBD, 51712) is old
    assert entry_of(made, VIF, 0) is None
