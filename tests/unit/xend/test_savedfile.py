"""Files of saved domains: what is one, and whether its disks are as it left them."""

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.descriptors import descriptors
from tests.unit.xend.kit import config, folders
from xenion.api.errors import ApiError
from xenion.config.disk import Disk, Format
from xenion.domain.saved.format import DONE, HEAD, HOST, NUMBER, PAGES, START, STATE, SaveError, Writer
from xenion.domain.saved.state import Head, HostDisk, HostState, encode
from xenion.xend.live import Live
from xenion.xend.savedfile import OpenSaved, append_host, check_disks, host_state, open_saved

NO_DISKS = HostState(lasting=False, disks=[])
HEAD_OF_WEB = Head(
    config={"name": "web"},
    uuid="u",
    domid=7,
    known_as=7,
    name="web",
    processor="software",
    saved_at=1.5,
    xenion="1",
)


@pytest.fixture(autouse=True)
def nothing_is_left_open() -> Iterator[None]:
    before = descriptors()
    yield
    assert set(descriptors()) <= set(before), "a descriptor was left open"


def saved(path: Path, *hosts: HostState, pages: int = 2) -> Path:
    """As a domain's process and xend write it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    writer = Writer(fd)
    writer.begin()
    writer.section(HEAD, encode(HEAD_OF_WEB))
    writer.section(STATE, b"for the domain's process to look at")
    for _ in range(pages):
        writer.section(PAGES, b"x" * 100)
    writer.section(DONE, NUMBER.pack(2))
    for host in hosts:
        append_host(fd, host)
    os.close(fd)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(ApiError) as caught:
        open_saved(path)
    assert caught.value.code == "refused"
    assert caught.value.message.startswith(f"{path}: ")
    return caught.value.message


# --- opening


@pytest.mark.parametrize("pages", [0, 1, 5])
def test_opened_at_its_start(tmp_path: Path, pages: int) -> None:
    path = saved(tmp_path / "web", NO_DISKS, pages=pages)
    with open_saved(path) as opened:
        assert (opened.path, opened.head, opened.host) == (path, HEAD_OF_WEB, NO_DISKS)
        assert os.read(opened.fd, 8) == START.pack(b"XENIONSV", 1)[:8]
        assert not os.get_inheritable(opened.fd)
    assert opened.fd == -1
    opened.close()


def test_it_is_closed_whatever_happens(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), open_saved(saved(tmp_path / "web", NO_DISKS)):
        raise ZeroDivisionError


def test_one_that_has_no_host_is_not_whole(tmp_path: Path) -> None:
    assert "cut off" in refusal(saved(tmp_path / "web"))


@pytest.mark.parametrize("left", [0, 5, 11, 12, 20, 100, 200, -1, -40])
def test_one_that_is_cut_off(tmp_path: Path, left: int) -> None:
    path = saved(tmp_path / "web", NO_DISKS)
    size = path.stat().st_size
    os.truncate(path, left if left >= 0 else size + left)
    refusal(path)


@pytest.mark.parametrize("where", [0, 9, 12, 16, 30, -1, -20, -50])
def test_one_that_is_damaged_where_xend_looks(tmp_path: Path, where: int) -> None:
    path = saved(tmp_path / "web", NO_DISKS)
    data = bytearray(path.read_bytes())
    data[where] ^= 0x40
    path.write_bytes(data)
    refusal(path)


def test_one_of_another_version(tmp_path: Path) -> None:
    path = saved(tmp_path / "web", NO_DISKS)
    data = bytearray(path.read_bytes())
    data[: START.size] = START.pack(b"XENIONSV", 2)
    path.write_bytes(data)
    assert "version 2" in refusal(path)


@pytest.mark.parametrize("kind", ["folder", "pipe", "missing", "text", "device", "link to itself"])
def test_what_is_none(tmp_path: Path, kind: str) -> None:
    """A pipe that nobody writes to keeps nobody waiting."""
    path = tmp_path / "web"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "text":
        path.write_text("it was a dark and stormy night")
    elif kind == "device":
        path = Path("/dev/zero")
    elif kind == "link to itself":
        path.symlink_to(path)
    refusal(path)


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b'{"disks": 1}', b"\xff", b"[" * 100_000])
def test_hosts_that_make_no_sense(tmp_path: Path, text: bytes) -> None:
    path = saved(tmp_path / "web")
    with path.open("ab") as file:
        Writer(file.fileno()).section(HOST, text)
    assert "makes no sense" in refusal(path)


# --- the last section


def test_a_file_that_cannot_take_it(tmp_path: Path) -> None:
    fd = os.open(saved(tmp_path / "web"), os.O_RDONLY)
    with pytest.raises(SaveError, match="Bad file descriptor"):
        append_host(fd, NO_DISKS)
    os.close(fd)


# --- disks


def live(at: Path, *disks: Disk, lasting: bool = False) -> Live:
    made = config(at, disks=disks)
    where = folders(at)
    return cast(
        "Live", SimpleNamespace(record=SimpleNamespace(config=made, lasting=lasting), logs=where.logs("web"))
    )


def image(at: Path, vdev: str = "xvda", **more: Any) -> Disk:
    path = at / f"{vdev}.img"
    if not path.exists():
        path.write_bytes(b"x" * 4096)
    return Disk(target=str(path), vdev=vdev, **more)


def found(path: Path, vdev: str) -> HostDisk:
    now = path.stat()
    return HostDisk(vdev, now.st_size, now.st_mtime_ns)


@pytest.mark.parametrize("lasting", [True, False])
def test_what_the_guest_writes_is_noted(tmp_path: Path, lasting: bool) -> None:
    disks = (
        image(tmp_path),
        image(tmp_path, "xvdb", writable=False),
        Disk(target="", vdev="xvdc", cdrom=True, writable=False),
    )
    host, remarks = host_state(live(tmp_path, *disks, lasting=lasting))
    assert host == HostState(lasting, [found(tmp_path / "xvda.img", "xvda")])
    assert remarks == []


def test_of_an_overlay_it_is_the_overlay_that_is_noted(tmp_path: Path) -> None:
    overlay = folders(tmp_path).logs("web") / "disks" / "xvda.qcow2"
    overlay.parent.mkdir(parents=True)
    overlay.write_bytes(b"overlay")
    host, remarks = host_state(live(tmp_path, image(tmp_path, overlay=True)))
    assert (host.disks, remarks) == ([found(overlay, "xvda")], [])


@pytest.mark.parametrize(
    "disk",
    [
        Disk(target="nbd://server/x", vdev="xvda", format=Format.NBD),
        Disk(target="/dev/null", vdev="xvda"),
    ],
)
def test_what_cannot_be_told_is_said(tmp_path: Path, disk: Disk) -> None:
    host, remarks = host_state(live(tmp_path, disk))
    assert host.disks == [HostDisk("xvda", None, None)]
    (remark,) = remarks
    assert remark.startswith("xvda: ")


def test_a_link_is_what_it_leads_to(tmp_path: Path) -> None:
    disk = image(tmp_path)
    (tmp_path / "link").symlink_to(disk.target)
    host, _ = host_state(live(tmp_path, Disk(target=str(tmp_path / "link"), vdev="xvda")))
    assert host.disks == [found(Path(disk.target), "xvda")]


def opened(at: Path, *disks: HostDisk) -> OpenSaved:
    return OpenSaved(at / "web.saved", -1, HEAD_OF_WEB, HostState(lasting=False, disks=list(disks)))


def test_disks_that_are_as_they_were(tmp_path: Path) -> None:
    made = live(tmp_path, image(tmp_path), image(tmp_path, "xvdb", writable=False))
    host, _ = host_state(made)
    (tmp_path / "xvdb.img").write_bytes(b"what it only reads may be another one")
    check_disks(opened(tmp_path, *host.disks), made.record.config, folders(tmp_path), force=False)


@pytest.mark.parametrize("how", ["longer", "later", "another"])
def test_disks_that_have_changed(tmp_path: Path, how: str) -> None:
    made = live(tmp_path, image(tmp_path))
    host, _ = host_state(made)
    path = tmp_path / "xvda.img"
    before = path.stat()
    if how == "longer":
        path.write_bytes(b"x" * 8192)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    elif how == "later":
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    else:
        path.unlink()
        image(tmp_path)
        os.utime(path, ns=(1, 1))
    with pytest.raises(ApiError, match="xvda has changed") as caught:
        check_disks(opened(tmp_path, *host.disks), made.record.config, folders(tmp_path), force=False)
    assert caught.value.code == "refused"
    check_disks(opened(tmp_path, *host.disks), made.record.config, folders(tmp_path), force=True)


@pytest.mark.parametrize("force", [False, True])
def test_a_disk_that_is_missing(tmp_path: Path, force: bool) -> None:
    made = live(tmp_path, image(tmp_path))
    host, _ = host_state(made)
    (tmp_path / "xvda.img").unlink()
    with pytest.raises(ApiError) as caught:
        check_disks(opened(tmp_path, *host.disks), made.record.config, folders(tmp_path), force=force)
    assert caught.value.code == "refused"
    assert caught.value.message == f"{tmp_path / 'xvda.img'}: No such file or directory"


def test_a_disk_that_the_configuration_does_not_have(tmp_path: Path) -> None:
    """What was saved may have been tampered with."""
    made = live(tmp_path, image(tmp_path))
    with pytest.raises(ApiError, match="xvdz"):
        check_disks(
            opened(tmp_path, HostDisk("xvdz", 1, 1)), made.record.config, folders(tmp_path), force=False
        )


def test_one_that_cannot_be_told_is_no_hindrance(tmp_path: Path) -> None:
    disk = Disk(target="nbd://server/x", vdev="xvda", format=Format.NBD)
    made = live(tmp_path, disk)
    check_disks(
        opened(tmp_path, HostDisk("xvda", None, None)), made.record.config, folders(tmp_path), force=False
    )
