"""Whether a domain finds its disks on another host."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from xenion.api.errors import ApiError
from xenion.config.disk import Disk, Format
from xenion.config.domain import DomainConfig
from xenion.xend.disks.files import is_device
from xenion.xend.disks.layers import Note, layers_of
from xenion.xend.migration import disks
from xenion.xend.migration.disks import check_movable, check_same, check_whole, marks_of
from xenion.xend.migration.talk import DiskMark

NBD = "nbd://192.0.2.1:10809/x"


def config(*found: Disk) -> DomainConfig:
    return DomainConfig(name="web", kernel=Path("/k"), memory_mib=16, disks=found)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image"
    path.write_bytes(b"x" * 4096)
    os.utime(path, ns=(1, 123456789012345678))
    return path


def disk(path: Path | str, vdev: str = "xvda", **more: Any) -> Disk:
    return Disk(target=str(path), vdev=vdev, **more)


def refusal(work: Any, *of: Any, **more: Any) -> str:
    with pytest.raises(ApiError) as caught:
        work(*of, **more)
    assert caught.value.code == "refused"
    return caught.value.message


# --- checkpoints


def noted(image: Path, logs: Path, **more: Any) -> None:
    """Of checkpoints of the disk."""
    made = layers_of(disk(image), logs)
    assert made is not None
    names: dict[str, Any] = {name: f"{made.key}-{number}.qcow2" for name, number in more.items()}
    made.write(Note(made.base, Format.RAW, "xvda", points={"one": ""}, **names))


def test_disks_without_checkpoints_move(image: Path, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    none = Disk(target="", vdev="xvdc", cdrom=True, writable=False)
    check_whole(config(disk(image), disk(NBD, "xvdb", format=Format.NBD), none), logs)
    noted(image, logs)
    check_whole(config(disk(image)), logs)


def test_what_is_above_an_image_stays(image: Path, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    noted(image, logs, top=1)
    said = refusal(check_whole, config(disk(image)), logs)
    assert said.startswith("disk xvda of web stays here: since a checkpoint it goes on in a file above ")
    assert "xm checkpoint-merge" in said
    check_whole(config(disk(image, writable=False)), logs)
    check_whole(config(disk(image)), tmp_path / "another")


def test_what_may_be_above_an_image_stays(image: Path, tmp_path: Path) -> None:
    """The other host would go on with what is below it."""
    noted(image, tmp_path / "logs", next=1)
    assert "stays here" in refusal(check_whole, config(disk(image)), tmp_path / "logs")


# --- marks


def test_marks(image: Path) -> None:
    assert marks_of(config(disk(image))) == [DiskMark("xvda", 4096, image.stat().st_ino, 123456789012345678)]


def test_of_what_it_does_not_write_there_are_none(image: Path) -> None:
    made = config(
        disk(image, writable=False),
        disk("", "xvdb", writable=False, cdrom=True),
        disk("/gone", "xvdc", writable=False),
    )
    assert marks_of(made) == []
    check_same([], made, still_written=False)


def test_what_cannot_be_told(tmp_path: Path, image: Path) -> None:
    """An NBD server's disk, and whatever is no file."""
    device = Path("/dev/null")
    made = config(disk(NBD, format=Format.NBD), disk(device, "xvdb"))
    assert marks_of(made) == [DiskMark("xvda", None, None, None), DiskMark("xvdb", None, None, None)]
    check_same(marks_of(made), made, still_written=False)


def test_through_links(tmp_path: Path, image: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(image)
    assert marks_of(config(disk(link))) == marks_of(config(disk(image)))


@pytest.mark.parametrize("name", ["missing", "file/x"])
def test_one_that_is_not_there(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    said = refusal(marks_of, config(disk(tmp_path / name)))
    assert said.startswith(f"disk xvda: {tmp_path / name}: No")


# --- the same


def test_the_same_file(image: Path) -> None:
    made = config(disk(image))
    for still_written in (False, True):
        check_same(marks_of(made), made, still_written=still_written)


def test_written_since(image: Path) -> None:
    made = config(disk(image))
    marks = marks_of(made)
    os.utime(image, ns=(1, marks[0].mtime_ns + 1))  # type: ignore[operator]
    check_same(marks, made, still_written=True)
    said = refusal(check_same, marks, made, still_written=False)
    assert said == (
        f"disk xvda of web: {image} is another file here than there, or not as it was left: it has to be on storage "
        "that both hosts reach"
    )


@pytest.mark.parametrize("still_written", [False, True])
@pytest.mark.parametrize("how", ["copy", "grown", "shrunk", "gone"])
def test_another_file(image: Path, how: str, still_written: bool) -> None:
    made = config(disk(image))
    marks = marks_of(made)
    content, kept = image.read_bytes(), image.with_name("kept")
    if how == "copy":  # of the same size and time, as on a host with storage of its own
        image.rename(kept)
        image.write_bytes(content)
    elif how == "gone":
        image.rename(kept)
    else:
        os.truncate(image, 8192 if how == "grown" else 100)
    if how != "gone":
        os.utime(image, ns=(1, marks[0].mtime_ns))  # type: ignore[arg-type]
    assert "xvda" in refusal(check_same, marks, made, still_written=still_written)


@pytest.mark.parametrize("field", ["size", "inode", "mtime_ns"])
def test_marks_that_tell_nothing_are_not_believed(image: Path, field: str) -> None:
    """Here it is a file: there it has to be one, too."""
    made = config(disk(image))
    (mark,) = marks_of(made)
    values = {name: getattr(mark, name) for name in ("vdev", "size", "inode", "mtime_ns")}
    refusal(check_same, [DiskMark(**{**values, field: None})], made, still_written=False)
    refusal(check_same, [DiskMark("xvda", None, None, None)], made, still_written=True)


def test_a_file_there_and_a_device_here(image: Path) -> None:
    made = config(disk("/dev/null"))
    refusal(check_same, marks_of(config(disk(image))), made, still_written=True)


def test_other_disks(image: Path) -> None:
    made = config(disk(image), disk(image.parent / "image", "xvdb"))
    one, two = marks_of(made)
    for theirs in ([], [one], [two], [one, two, DiskMark("xvdc", 1, 1, 1)]):
        said = refusal(check_same, theirs, made, still_written=True)
        assert "other disks there" in said
    check_same([two, one], made, still_written=False)


def test_one_mark_twice(image: Path) -> None:
    """Each of them has to fit."""
    made = config(disk(image))
    (mark,) = marks_of(made)
    other = DiskMark("xvda", mark.size, 1, mark.mtime_ns)
    refusal(check_same, [mark, other], made, still_written=False)
    refusal(check_same, [other, mark], made, still_written=False)


# --- what can move


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(disks, "is_device", lambda path: path == "/dev/sdx")
    return "/dev/sdx"  # type: ignore[return-value]


def test_what_can_move(image: Path, tmp_path: Path) -> None:
    qcow2 = disk(image, "xvdd", format=Format.QCOW2, writable=False)
    drive = disk("", "xvde", writable=False, cdrom=True)
    made = config(
        disk(image), disk(NBD, "xvdb", format=Format.NBD), disk(tmp_path / "gone", "xvdc"), qcow2, drive
    )
    for same_disks in (False, True):
        check_movable(made, same_disks=same_disks)


@pytest.mark.parametrize(
    "more", [{"format": Format.QCOW2}, {"overlay": True}, {"overlay": True, "format": Format.QCOW2}]
)
@pytest.mark.parametrize("same_disks", [False, True])
def test_images_that_stay(image: Path, more: dict[str, Any], same_disks: bool) -> None:
    said = refusal(check_movable, config(disk(image, **more)), same_disks=same_disks)
    assert said.startswith(
        "disk xvda of web stays here: images of the format qcow2, and overlays, cannot move yet"
    )


def test_devices(device: str) -> None:
    said = refusal(check_movable, config(disk(device)), same_disks=False)
    assert "whether /dev/sdx is the same device on both hosts" in said
    assert said.endswith("say so with --same-disks")
    check_movable(config(disk(device)), same_disks=True)
    check_movable(config(disk(device, writable=False)), same_disks=False)


@pytest.mark.parametrize(
    "url", ["nbd://127.0.0.1:10809/x", "nbd://localhost/x", "nbd://[::1]/x", "nbd+unix:///x?socket=/run/nbd"]
)
def test_a_server_of_each_hosts_own(url: str) -> None:
    made = config(disk(url, "xvdb", format=Format.NBD))
    assert "is the same device on both hosts" in refusal(check_movable, made, same_disks=False)
    check_movable(made, same_disks=True)


def test_what_is_a_device(tmp_path: Path, image: Path) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / "socket"))
    for path in (image, tmp_path / "socket", tmp_path, "/dev/null", tmp_path / "gone", image / "x"):
        assert not is_device(str(path))


def test_a_real_device() -> None:
    found = [path for path in Path("/dev").iterdir() if path.is_block_device()]
    if not found:
        pytest.skip("there is no block device here")
    assert is_device(str(found[0]))
