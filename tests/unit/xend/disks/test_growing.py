"""Disks that grow under a running guest."""

from pathlib import Path

import pytest

from tests.unit.xend.disks import kit
from tests.unit.xend.disks.kit import MIB, disk, qcow2, qcow2_disk, raw, refusal, run
from tests.unit.xend.disks.test_layers import KINDS, made
from tests.unit.xend.disks.test_opening import go_over
from xenion.config.disk import Format
from xenion.xend.disks import growing, opening, storage_daemon
from xenion.xend.disks.place import DiskPlace


def test_a_file(tmp_path: Path, place: DiskPlace) -> None:
    plain = disk(raw(tmp_path / "image"))
    made = run(opening.open_disk(plain, place))
    grown = run(growing.grow(plain, 2 * MIB, place, []))
    assert grown.description == {**made.description, "size_bytes": 2 * MIB}
    assert grown.fds == []
    made.close()


@pytest.mark.usefixtures("tools")
def test_an_image(tmp_path: Path, place: DiskPlace) -> None:
    image = qcow2_disk(qcow2(tmp_path / "image"))
    made = run(opening.open_disk(image, place))
    kit.nbd(made, kit.WRITE, 0, b"before" + bytes(506))
    grown = run(growing.grow(image, 8 * MIB, place, made.helpers))
    assert grown.helpers == made.helpers
    assert grown.description["size_bytes"] == 8 * MIB
    assert kit.nbd(grown, kit.READ, 0, count=6) == b"before"
    kit.nbd(grown, kit.WRITE, 8 * MIB - 512, b"last" + bytes(508))
    with pytest.raises((AssertionError, ConnectionError)):
        kit.nbd(made, kit.READ, 0, count=6)
    error = run(refusal(growing.grow(image, MIB, place, made.helpers)))
    assert f"has {8 * MIB} bytes and can only grow" in error.message
    assert kit.nbd(grown, kit.READ, 0, count=6) == b"before", "a refusal cuts nobody off"
    error = run(refusal(growing.grow(image, 1 << 62, place, made.helpers)))
    assert "cannot be grown: " in error.message
    again = run(opening.reopen(image, place, made.helpers))
    assert kit.nbd(again, kit.READ, 8 * MIB - 512, count=4) == b"last"
    for each in (made, grown):
        each.close()
    run(again.abandon())


@pytest.mark.usefixtures("tools")
@pytest.mark.parametrize("kind", KINDS)
def test_with_checkpoints(kind: str, tmp_path: Path, place: DiskPlace) -> None:
    """What is on top grows, and the checkpoints keep the sizes that they had."""
    each = made(kind, tmp_path, place)
    each.make("one")
    opened = run(opening.open_disk(each.disk, place))
    if kind != "raw":
        run(go_over(each, "two"))
    grown = run(growing.grow(each.disk, 2 * MIB, place, opened.helpers))
    assert grown.description["size_bytes"] == 2 * MIB
    kit.nbd(grown, kit.WRITE, 2 * MIB - 512, b"last" * 128)
    run(go_over(each, "three"))
    again = run(growing.grow(each.disk, 3 * MIB, place, grown.helpers))
    assert kit.nbd(again, kit.READ, 2 * MIB - 512, count=1024) == b"last" * 128 + bytes(512)
    assert "can only grow" in run(refusal(growing.grow(each.disk, MIB, place, again.helpers))).message
    for one in (opened, grown):
        one.close()
    run(again.abandon())
    assert len(each.read()) == 3 * MIB
    assert [len(each.read_point(point)) for point in ("one", "three")] == [MIB, 2 * MIB]
    each.go_back("one")
    back = run(opening.open_disk(each.disk, place))
    assert back.description["size_bytes"] == MIB
    run(back.abandon())


@pytest.mark.usefixtures("tools")
def test_a_file_with_checkpoints_and_no_daemon(tmp_path: Path, place: DiskPlace) -> None:
    """It was opened as it is, before there were any, and its domain writes it itself."""
    each = made("raw", tmp_path, place)
    opened = run(opening.open_disk(each.disk, place))
    each.begin()
    grown = run(growing.grow(each.disk, 2 * MIB, place, []))
    assert (grown.description["type"], grown.description["size_bytes"]) == ("file", 2 * MIB)
    opened.close()
    assert len(each.read()) == 2 * MIB
    each.make("one")
    assert len(each.read()) == len(each.read_point("one")) == 2 * MIB


@pytest.mark.usefixtures("tools")
def test_without_its_daemon(tmp_path: Path, place: DiskPlace) -> None:
    image = qcow2_disk(qcow2(tmp_path / "image"))
    error = run(refusal(growing.grow(image, 2 * MIB, place, [])))
    assert "it does not listen" in error.message
    made = run(opening.open_disk(image, place))
    storage_daemon.qmp_socket(image, place).unlink()
    assert "it does not listen" in run(refusal(growing.grow(image, 2 * MIB, place, made.helpers))).message
    run(made.abandon())


@pytest.mark.parametrize(
    ("more", "size", "says"),
    [
        ({"writable": False}, 2 * MIB, "read-only"),
        ({"writable": False, "cdrom": True}, 2 * MIB, "read-only"),
        ({}, 0, "a multiple of 512"),
        ({}, MIB + 1, "a multiple of 512"),
        ({"sector_bytes": 4096}, MIB + 512, "a multiple of 4096"),
    ],
)
def test_refused(place: DiskPlace, more: dict[str, object], size: int, says: str) -> None:
    assert says in run(refusal(growing.grow(disk("/none", **more), size, place, []))).message


def test_another_s(place: DiskPlace) -> None:
    far = disk("nbd://host", format=Format.NBD)
    assert "grown at its server" in run(refusal(growing.grow(far, MIB, place, []))).message
