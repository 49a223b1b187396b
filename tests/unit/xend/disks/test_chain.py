"""What is below a qcow2 image is found here, not by QEMU."""

import os
from pathlib import Path

import pytest

from tests.unit.xend.disks.kit import MIB, qcow2, qcow2_disk, raw
from xenion.api.errors import ApiError
from xenion.config.disk import Format
from xenion.xend.disks import chain
from xenion.xend.disks.chain import Image
from xenion.xend.disks.place import DiskPlace

pytestmark = pytest.mark.usefixtures("tools")


def find(path: Path, place: DiskPlace) -> list[Image]:
    return chain.find(qcow2_disk(path), path, Format.QCOW2, place)


def test_a_chain(tmp_path: Path, place: DiskPlace) -> None:
    base = raw(tmp_path / "base", 2 * MIB)
    qcow2(tmp_path / "middle", "-F", "raw", "-b", "base")
    top = qcow2(tmp_path / "top", "-F", "qcow2", "-b", str(tmp_path / "middle"))
    found = find(top, place)
    assert [image.path for image in found] == [top, tmp_path / "middle", base]
    assert {image.size_bytes for image in found} == {2 * MIB}
    assert chain.node(found, **{"node-name": "disk", "read-only": False}) == {
        "driver": "qcow2",
        "node-name": "disk",
        "read-only": False,
        "file": {"driver": "file", "filename": str(top), "read-only": False, "discard": "unmap"},
        "backing": {
            "driver": "qcow2",
            "read-only": True,
            "file": {
                "driver": "file",
                "filename": str(tmp_path / "middle"),
                "read-only": True,
                "discard": "unmap",
            },
            "backing": {
                "driver": "raw",
                "read-only": True,
                "file": {"driver": "file", "filename": str(base), "read-only": True, "discard": "unmap"},
            },
        },
    }


def test_one_that_stands_alone_gets_no_backing_file(tmp_path: Path, place: DiskPlace) -> None:
    assert chain.node(find(qcow2(tmp_path / "image"), place))["backing"] is None


@pytest.mark.parametrize("name", ["json:{}", "nbd://host/x", "file:base", "nbd+unix:///x?socket=/y"])
def test_names_that_are_no_plain_files(tmp_path: Path, place: DiskPlace, name: str) -> None:
    path = qcow2(tmp_path / "top", "-u", "-F", "raw", "-b", name, "-o", "size=1M")
    with pytest.raises(ApiError, match="only plain files are allowed"):
        find(path, place)


def test_a_format_is_never_guessed(tmp_path: Path, place: DiskPlace) -> None:
    """A raw base whose guest has written a qcow2 header naming a file that is not its business."""
    evil = qcow2(tmp_path / "evil", "-u", "-F", "raw", "-b", "/etc/shadow", "-o", "size=1M")
    raw(tmp_path / "base", data=evil.read_bytes())
    path = qcow2(tmp_path / "top", "-o", "compat=0.10", "-F", "raw", "-b", "base")
    assert [image.path.name for image in find(path, place)] == ["top", "base"]
    path.write_bytes(path.read_bytes().replace(b"\xe2\x79\x2a\xca", b"\0\0\0\1"))
    with pytest.raises(ApiError, match=r"whose format it leaves open: .*qemu-img rebase -u -F raw -b base"):
        find(path, place)
    vmdk = qcow2(tmp_path / "other", "-u", "-F", "vmdk", "-b", "base", "-o", "size=1M")
    with pytest.raises(ApiError, match="of the format 'vmdk'"):
        find(vmdk, place)


def test_a_chain_without_end(tmp_path: Path, place: DiskPlace) -> None:
    (tmp_path / "loop").touch()
    path = qcow2(tmp_path / "loop", "-u", "-F", "qcow2", "-b", "loop", "-o", "size=1M")
    with pytest.raises(ApiError, match="has no end"):
        find(path, place)


def test_below_it_there_are_files_only(tmp_path: Path, place: DiskPlace) -> None:
    os.mkfifo(tmp_path / "base")
    path = qcow2(tmp_path / "top", "-u", "-F", "raw", "-b", "base", "-o", "size=1M")
    with pytest.raises(ApiError, match="base is neither a file nor a block device"):
        find(path, place)
    (tmp_path / "base").unlink()
    with pytest.raises(ApiError, match="base does not exist"):
        find(path, place)


def test_what_is_no_qcow2(tmp_path: Path, place: DiskPlace) -> None:
    with pytest.raises(ApiError, match=f"disk xvda: {tmp_path / 'image'} is not a qcow2 image"):
        find(raw(tmp_path / "image"), place)
