"""Files of saved domains: what is one, and whether its disks are as it left them."""

import asyncio
import json
import os
import subprocess
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
from xenion.xend.disks.layers import Layers, layers_of
from xenion.xend.disks.place import DiskPlace
from xenion.xend.live import Live
from xenion.xend.savedfile import (
    OpenSaved,
    append_host,
    check_disks,
    check_points,
    fixed_state,
    host_state,
    open_saved,
)
from xenion.xend.storage import private_folder

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


# --- checkpoints


def fix(at: Path, *disks: Disk, point: str = "p") -> list[tuple[Disk, Layers]]:
    """As a checkpoint does; nobody has them open."""
    found = []
    for disk in disks:
        made = layers_of(disk, folders(at).logs("web"))
        assert made is not None
        run, state = private_folder(at / "run"), private_folder(folders(at).logs("web"))
        place = DiskPlace(name="web", uuid="1", run=run, state=state, said=-1, lasting=True)
        asyncio.run(made.begin(place))
        made.commit(point)
        found.append((disk, made))
    return found


def write(made: Layers) -> None:
    """The guest, on top."""
    note = made.known()
    command = ("qemu-io", "-f", made.format(note.top).value, "-c", "write -q -P 1 0 512", made.path(note.top))
    subprocess.run(command, check=True)


def checkpoint(at: Path, *disks: HostDisk, point: str = "p") -> OpenSaved:
    host = HostState(lasting=False, disks=list(disks), point=point)
    return OpenSaved(at / "web.saved", -1, HEAD_OF_WEB, host)


@pytest.mark.parametrize("lasting", [True, False])
def test_what_a_checkpoint_has_fixed_is_noted(tmp_path: Path, tools: None, lasting: bool) -> None:
    """As it was, whatever has been written since."""
    disks = image(tmp_path), image(tmp_path, "xvdb")
    made = live(tmp_path, *disks, image(tmp_path, "xvdc", writable=False), lasting=lasting)
    fixed = fix(tmp_path, *disks)
    for _, layers in fixed:
        write(layers)
    host = fixed_state(made, fixed, "p")
    assert host == HostState(
        lasting, [found(tmp_path / f"{vdev}.img", vdev) for vdev in ("xvda", "xvdb")], point="p"
    )
    path = saved(tmp_path / "web", host)
    with open_saved(path) as opened:
        assert opened.host == host


def test_what_is_not_kept_cannot_be_noted(tmp_path: Path, tools: None) -> None:
    disk = image(tmp_path)
    fixed = fix(tmp_path, disk)
    with pytest.raises(ApiError, match="the checkpoint was deleted"):
        fixed_state(live(tmp_path, disk), fixed, "q")


def test_what_the_guest_writes_above_is_what_is_noted(tmp_path: Path, tools: None) -> None:
    """Of a domain that ends: it goes on with what is on top."""
    disk = image(tmp_path)
    ((_, layers),) = fix(tmp_path, disk)
    write(layers)
    host, remarks = host_state(live(tmp_path, disk))
    top = layers.path(layers.known().top)
    assert (host.disks, host.point, remarks) == ([found(top, "xvda")], "", [])
    config_now = live(tmp_path, disk).record.config
    check_disks(opened(tmp_path, *host.disks), config_now, folders(tmp_path), force=False)
    write(layers)
    os.utime(top, ns=(1, 1))
    with pytest.raises(ApiError, match="xvda has changed"):
        check_disks(opened(tmp_path, *host.disks), config_now, folders(tmp_path), force=False)


@pytest.mark.parametrize("back", [True, False])
def test_nothing_was_written_since(tmp_path: Path, tools: None, back: bool) -> None:
    disks = image(tmp_path), image(tmp_path, "xvdb")
    made = live(tmp_path, *disks)
    host = fixed_state(made, fix(tmp_path, *disks), "p")
    found = checkpoint(tmp_path, *host.disks)
    check_points(found, made.record.config, folders(tmp_path), back=back)


def test_something_was_written_since(tmp_path: Path, tools: None) -> None:
    disks = image(tmp_path), image(tmp_path, "xvdb")
    made = live(tmp_path, *disks)
    fixed = fix(tmp_path, *disks)
    host = fixed_state(made, fixed, "p")
    write(fixed[1][1])
    found = checkpoint(tmp_path, *host.disks)
    with pytest.raises(ApiError, match="the disk xvdb was written to after the checkpoint: --back") as caught:
        check_points(found, made.record.config, folders(tmp_path), back=False)
    assert caught.value.code == "refused"
    assert caught.value.message.startswith(f"{found.path}: ")
    check_points(found, made.record.config, folders(tmp_path), back=True)


@pytest.mark.parametrize("back", [True, False])
@pytest.mark.parametrize("how", ["deleted", "changed", "gone", "no note"])
def test_what_it_was_is_not_there(tmp_path: Path, tools: None, how: str, back: bool) -> None:
    disk = image(tmp_path)
    made = live(tmp_path, disk)
    fixed = fix(tmp_path, disk)
    host = fixed_state(made, fixed, "p")
    if how == "deleted":
        fixed[0][1].forget("p")
    elif how == "changed":
        os.utime(disk.target, ns=(1, 1))
    elif how == "gone":
        Path(disk.target).unlink()
    else:
        fixed[0][1]._path.unlink()
    says = {"changed": "was changed since the checkpoint was made", "gone": "does not exist"}
    with pytest.raises(ApiError, match=says.get(how, "the checkpoint was deleted")) as caught:
        check_points(checkpoint(tmp_path, *host.disks), made.record.config, folders(tmp_path), back=back)
    assert caught.value.code == "refused"


@pytest.mark.parametrize("disk", [None, Disk(target="nbd://server/x", vdev="xvda", format=Format.NBD)])
def test_a_checkpoint_of_a_disk_that_the_configuration_does_not_have(
    tmp_path: Path, disk: Disk | None
) -> None:
    made = live(tmp_path, *([disk] if disk else []))
    with pytest.raises(ApiError, match="the domain has no disk xvda that a checkpoint keeps"):
        check_points(
            checkpoint(tmp_path, HostDisk("xvda", 1, 1)), made.record.config, folders(tmp_path), back=True
        )


@pytest.mark.parametrize("point", [7, None, "x" * 65, ["p"]])
def test_points_that_make_no_sense(tmp_path: Path, point: object) -> None:
    path = saved(tmp_path / "web")
    with path.open("ab") as file:
        text = json.dumps({"lasting": False, "disks": [], "point": point}).encode()
        Writer(file.fileno()).section(HOST, text)
    assert "makes no sense" in refusal(path)


def test_a_file_from_before_there_were_checkpoints(tmp_path: Path) -> None:
    path = saved(tmp_path / "web")
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    writer = Writer(fd)
    writer.section(HOST, b'{"lasting": true, "disks": []}')
    writer.finish()
    os.close(fd)
    with open_saved(path) as opened:
        assert opened.host == HostState(lasting=True, disks=[], point="")
