"""Raw files and devices."""

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.descriptors import descriptors
from tests.unit.xend.disks.kit import MIB, disk, raw
from xenion.api.errors import ApiError
from xenion.dom0.block import locks
from xenion.xend.disks import files
from xenion.xend.disks.place import DiskPlace


def test_a_file(tmp_path: Path, place: DiskPlace) -> None:
    path = raw(tmp_path / "image", 3 * MIB)
    before = descriptors()
    made = files.open_file(disk(path, limit_bytes=7, limit_requests=8, discard=False), place)
    assert made.description == {
        "type": "file",
        "vdev": "xvda",
        "devid": 51712,
        "size_bytes": 3 * MIB,
        "writable": True,
        "cdrom": False,
        "sector_bytes": 512,
        "discard": False,
        "persistent_grants": False,
        "limit_bytes": 7,
        "limit_requests": 8,
    }
    (fd,) = made.fds
    os.pwrite(fd, b"guest", 0)
    assert path.read_bytes()[:5] == b"guest"
    assert not os.get_inheritable(fd)
    made.close()
    made.close()
    assert descriptors() == before


def test_read_only(tmp_path: Path, place: DiskPlace) -> None:
    path = raw(tmp_path / "image")
    made = files.open_file(disk(path, writable=False), place)
    assert made.description["writable"] is False
    with pytest.raises(OSError, match="Bad file"):
        os.pwrite(made.fds[0], b"guest", 0)
    again = files.open_file(disk(path, writable=False, cdrom=True), place)
    assert again.description["cdrom"] is True
    with pytest.raises(ApiError, match="in use by another program"):
        files.open_file(disk(path), place)
    made.close()
    again.close()


def test_used_by_another_domain(tmp_path: Path, place: DiskPlace) -> None:
    path = raw(tmp_path / "image")
    (tmp_path / "link").symlink_to(path)
    made = files.open_file(disk(path), place)
    others = {"db": (disk(tmp_path / "no such file"),), "mail": (disk(tmp_path / "link"),)}
    before = descriptors()
    with pytest.raises(ApiError, match=f"disk xvda: {path} is in use by the domain mail: ") as caught:
        files.open_file(disk(path), replace(place, others=lambda: others))
    assert caught.value.code == "refused"
    assert descriptors() == before
    made.close()


@pytest.mark.parametrize("kind", ["missing", "folder", "fifo", "small", "character"])
def test_what_is_no_disk(tmp_path: Path, place: DiskPlace, kind: str) -> None:
    path = Path("/dev/null") if kind == "character" else tmp_path / "image"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "small":
        raw(path, 511)
    before = descriptors()
    with pytest.raises(ApiError) as caught:
        files.open_file(disk(path), place)
    says = {"missing": "does not exist", "folder": "Is a directory", "small": "has 511 bytes"}
    assert says.get(kind, "neither a file nor a block device") in caught.value.message
    assert caught.value.message.startswith(f"disk xvda: {path}")
    assert descriptors() == before


def test_no_locks_is_a_note(tmp_path: Path, place: DiskPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locks, "_set", fail)
    made = files.open_file(disk(raw(tmp_path / "image")), place)
    (note,) = made.notes
    assert "cannot be locked" in note
    made.close()


def test_of_one_that_comes_from_another_host(tmp_path: Path, place: DiskPlace) -> None:
    """What it writes is locked later: the other host holds its locks still."""
    path = raw(tmp_path / "image")
    coming = replace(place, arriving=True)
    theirs = files.open_file(disk(path), place)
    made = files.open_file(disk(path), coming)
    assert made.lock is not None
    with pytest.raises(ApiError, match="in use by another program"):
        made.lock()
    theirs.close()
    made.lock()
    with pytest.raises(ApiError, match="in use by another program"):
        files.open_file(disk(path), place)
    made.close()
    files.open_file(disk(path), place).close()


def test_what_it_only_reads_is_locked_at_once(tmp_path: Path, place: DiskPlace) -> None:
    path = raw(tmp_path / "image")
    made = files.open_file(disk(path, writable=False), replace(place, arriving=True))
    assert made.lock is None
    with pytest.raises(ApiError, match="in use by another program"):
        files.open_file(disk(path), place)
    made.close()


def test_no_locks_are_a_note_later_too(
    tmp_path: Path, place: DiskPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = files.open_file(disk(raw(tmp_path / "image")), replace(place, arriving=True))
    assert made.lock is not None

    def fail(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locks, "_set", fail)
    made.lock()
    assert "cannot be locked" in made.notes[0]
    made.close()


def test_grown(tmp_path: Path, place: DiskPlace) -> None:
    path = raw(tmp_path / "image")
    made = files.open_file(disk(path), place)
    assert files.grow_file(disk(path), 2 * MIB, place) == 2 * MIB
    assert os.fstat(made.fds[0]).st_size == 2 * MIB
    with pytest.raises(ApiError, match="can only grow"):
        files.grow_file(disk(path), MIB, place)
    path.rename(tmp_path / "moved")
    raw(path)
    with pytest.raises(ApiError, match="not the file any more"):
        files.grow_file(disk(path), 2 * MIB, place)
    assert path.stat().st_size == MIB
    made.close()
    path.unlink()
    with pytest.raises(ApiError, match="does not exist"):
        files.grow_file(disk(path), 2 * MIB, place)


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Path]:
    backing = raw(tmp_path / "device", 4 * MIB)
    words = ["losetup", "--find", "--show", str(backing)]
    made = (
        subprocess.run(words, capture_output=True, text=True, check=False)
        if shutil.which("losetup")
        else None
    )
    if made is None or made.returncode:
        pytest.skip("this host lets nobody make loop devices here")
    path = Path(made.stdout.strip())
    yield path
    subprocess.run(["losetup", "--detach", str(path)], check=True)


def test_a_device(device: Path, place: DiskPlace) -> None:
    made = files.open_file(disk(device), place)
    assert made.description["size_bytes"] == 4 * MIB
    with pytest.raises(ApiError, match="in use"):
        files.open_file(disk(device), place)
    assert files.grow_file(disk(device), MIB, place) == 4 * MIB
    with pytest.raises(ApiError, match="grow the device first"):
        files.grow_file(disk(device), 8 * MIB, place)
    made.close()
    one, two = (files.open_file(disk(device, writable=False), place) for _ in range(2))
    one.close()
    two.close()


def test_what_is_a_device(device: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(device)
    assert files.is_device(str(device))
    assert files.is_device(str(tmp_path / "link"))


def test_what_is_none(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    raw(tmp_path / "image")
    for path in ("/dev/null", *(tmp_path / name for name in ("", "none", "loop", "image", "image/below"))):
        assert not files.is_device(str(path))


def test_a_mounted_device(device: Path, place: DiskPlace, tmp_path: Path) -> None:
    subprocess.run(["mke2fs", "-q", str(device)], check=True)
    at = tmp_path / "mount"
    at.mkdir()
    if subprocess.run(["mount", str(device), str(at)], check=False, capture_output=True).returncode:
        pytest.skip("this host lets nobody mount here")
    try:
        with pytest.raises(ApiError, match="in use"):
            files.open_file(disk(device), place)
        with pytest.raises(ApiError, match=f"mounted for writing at {at}"):
            files.open_file(disk(device, writable=False), place)
        subprocess.run(["mount", "-o", "remount,ro", str(at)], check=True)
        files.open_file(disk(device, writable=False), place).close()
    finally:
        subprocess.run(["umount", str(at)], check=True)
