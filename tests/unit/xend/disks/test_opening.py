"""Disks opened together, and what becomes of it when one of them cannot be, or a helper dies."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.descriptors import descriptors
from tests.unit.xend.disks import kit
from tests.unit.xend.disks.kit import MIB, disk, qcow2, qcow2_disk, raw, refusal, run
from xenion.api.errors import ApiError
from xenion.config.disk import Format
from xenion.xend import helpers
from xenion.xend.disks import opening
from xenion.xend.disks.place import DiskPlace


def test_an_empty_drive(place: DiskPlace) -> None:
    made = run(opening.open_disk(disk("", cdrom=True, writable=False), place))
    assert (made.description["type"], made.description["size_bytes"], made.fds) == ("empty", 0, [])


def test_a_cd(tmp_path: Path, place: DiskPlace) -> None:
    made = run(opening.open_disk(disk(raw(tmp_path / "cd"), cdrom=True, writable=False), place))
    assert (made.description["type"], made.description["cdrom"]) == ("file", True)
    made.close()


@pytest.mark.parametrize("more", [{"format": Format.QCOW2}, {"overlay": True}])
def test_of_one_that_comes_from_another_host(tmp_path: Path, place: DiskPlace, more: dict[str, Any]) -> None:
    """Its storage daemon there holds its locks until it ends: whatever xend let it come, this is the last word."""
    before = descriptors()
    coming = replace(place, arriving=True)
    error = run(refusal(opening.open_disk(disk(raw(tmp_path / "image"), **more), coming)))
    assert (error.code, "cannot come from another host" in error.message) == ("refused", True)
    assert descriptors() == before
    made = run(opening.open_disk(disk(tmp_path / "image"), coming))
    assert made.lock is not None
    made.close()


@pytest.mark.usefixtures("tools")
class TestWithAStorageDaemon:
    def test_what_a_guest_writes(self, tmp_path: Path, place: DiskPlace) -> None:
        made = run(opening.open_disk(qcow2_disk(qcow2(tmp_path / "image", size=4 * MIB)), place))
        assert made.description["type"] == "nbd"
        assert made.description["size_bytes"] == 4 * MIB
        assert len(made.fds) > 1
        kit.nbd(made, kit.WRITE, 512, b"guest" + bytes(507))
        assert kit.nbd(made, kit.READ, 512, count=5, which=1) == b"guest"
        (helper,) = made.helpers
        assert os.getsid(helper.pid) == helper.pid
        made.close()
        assert helper.alive, "it belongs to the domain"
        run(opening.close(qcow2_disk(tmp_path / "image"), place, made.helpers))
        assert not helper.alive
        assert list(place.run.iterdir()) == []

    def test_read_only(self, tmp_path: Path, place: DiskPlace) -> None:
        shared = qcow2_disk(qcow2(tmp_path / "image"), writable=False)
        made = [
            run(opening.open_disk(shared, place)),
            run(
                opening.open_disk(
                    kit.disk(shared.target, vdev="xvdb", writable=False, format=Format.QCOW2), place
                )
            ),
        ]
        with pytest.raises(OSError, match="refuses"):
            kit.nbd(made[0], kit.WRITE, 0, bytes(512))
        before = descriptors()
        wants = kit.disk(shared.target, vdev="xvdc", format=Format.QCOW2)
        assert "image is in use by another program" in run(refusal(opening.open_disk(wants, place))).message
        assert descriptors() == before
        for each in made:
            run(each.abandon())

    def test_an_overlay(self, tmp_path: Path, place: DiskPlace) -> None:
        base = raw(tmp_path / "base", data=b"base")
        over = disk(base, overlay=True)
        made = run(opening.open_disk(over, place))
        assert kit.nbd(made, kit.READ, 0, count=4) == b"base"
        kit.nbd(made, kit.WRITE, 0, b"over" + bytes(508))
        assert "in use" in run(refusal(opening.open_disk(disk(base, vdev="xvdb"), place))).message
        run(made.abandon())
        assert base.read_bytes()[:4] == b"base"
        made = run(opening.open_disk(over, place))
        assert kit.nbd(made, kit.READ, 0, count=4) == b"over"
        run(made.abandon())

    def test_the_daemon_dies(self, tmp_path: Path, place: DiskPlace) -> None:
        image = qcow2_disk(qcow2(tmp_path / "image"))
        first = run(opening.open_disk(image, place))
        kit.nbd(first, kit.WRITE, 0, b"before" + bytes(506))
        kit.nbd(first, kit.FLUSH, 0)
        same = run(opening.reopen(image, place, first.helpers))
        assert same.helpers == first.helpers
        same.close()
        first.helpers[0].process.kill()
        run(first.helpers[0].ended())
        second = run(opening.reopen(image, place, first.helpers))
        assert second.helpers != first.helpers
        assert kit.nbd(second, kit.READ, 0, count=6) == b"before"
        first.close()
        run(second.abandon())

    def test_what_is_no_image_leaves_nothing(self, tmp_path: Path, place: DiskPlace) -> None:
        before = descriptors()
        wrong = kit.disk(raw(tmp_path / "wrong"), vdev="xvdc", format=Format.QCOW2)
        with pytest.raises(ApiError, match=r"disk xvdc: .*wrong is not a qcow2 image"):
            run(opening.open_disk(wrong, place))
        assert descriptors() == before
        assert helpers.strays(place.run, ()) == []

    def test_what_qemu_refuses(self, tmp_path: Path, place: DiskPlace) -> None:
        """Its words, without the options that it repeats."""
        path = qcow2(tmp_path / "image")
        data = bytearray(path.read_bytes())
        data[40:48] = (7).to_bytes(8, "big")  # an L1 table begins at a cluster
        path.write_bytes(data)
        error = run(refusal(opening.open_disk(qcow2_disk(path), place)))
        assert error.message.startswith(f"disk xvda: {path} cannot be opened: ")
        assert "{" not in error.message
        assert list(place.run.iterdir()) == []

    def test_a_daemon_without_a_word(
        self, tmp_path: Path, place: DiskPlace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        broken = tmp_path / "bin" / "qemu-storage-daemon"
        broken.parent.mkdir()
        broken.symlink_to("/bin/true")
        monkeypatch.setenv("PATH", f"{broken.parent}:{os.environ['PATH']}")
        error = run(refusal(opening.open_disk(qcow2_disk(qcow2(tmp_path / "image")), place)))
        assert "ended without a word" in error.message

    def test_no_daemon(self, tmp_path: Path, place: DiskPlace, monkeypatch: pytest.MonkeyPatch) -> None:
        image = qcow2_disk(qcow2(tmp_path / "image"))
        monkeypatch.setenv("PATH", str(tmp_path))
        before = descriptors()
        error = run(refusal(opening.open_disk(image, place)))
        assert "qemu-storage-daemon is not installed: apt-get install qemu-system-common" in error.message
        assert descriptors() == before


def test_what_has_no_connection_has_none_to_break(tmp_path: Path, place: DiskPlace) -> None:
    with pytest.raises(ApiError, match="no connection"):
        run(opening.reopen(disk(raw(tmp_path / "image")), place, []))


def test_an_overlay_over_a_server(place: DiskPlace) -> None:
    far = disk("nbd://host", format=Format.NBD, overlay=True)
    assert "goes over a file" in run(refusal(opening.open_disk(far, place))).message
