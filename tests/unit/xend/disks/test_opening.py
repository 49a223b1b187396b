"""Disks opened together, and what becomes of it when one of them cannot be, or a helper dies."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.descriptors import descriptors
from tests.unit.xend.disks import kit
from tests.unit.xend.disks.kit import MIB, disk, qcow2, qcow2_disk, raw, refusal, run
from tests.unit.xend.disks.test_layers import KINDS, Checkpoints, data, made
from xenion.api.errors import ApiError
from xenion.config.disk import Format
from xenion.xend import helpers
from xenion.xend.disks import opening, storage_daemon
from xenion.xend.disks.chain import Image
from xenion.xend.disks.place import DiskPlace, OpenDisk
from xenion.xend.disks.qmp import Qmp


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


def guest(opened: OpenDisk, fill: int, at: int = 0) -> None:
    kit.nbd(opened, kit.WRITE, at, bytes([fill]) * 512)


def first(opened: OpenDisk, count: int = 2048) -> bytes:
    return kit.nbd(opened, kit.READ, 0, count=count)


async def go_over(each: Checkpoints, point: str) -> None:
    """A checkpoint of a disk that its storage daemon serves."""
    image = await each.layers.begin(each.place)
    name = image.stem
    async with Qmp(storage_daemon.qmp_socket(each.disk, each.place)) as daemon:
        below, _ = await storage_daemon.exported(daemon)
        top = [Image(image, Format.QCOW2, device=False, size_bytes=0)]
        await daemon.do("blockdev-add", **storage_daemon.node(each.disk, top, f"n{name}"))
        await daemon.do("blockdev-snapshot", node=below, overlay=f"n{name}")
    each.layers.commit(point)


async def exported(each: Checkpoints) -> tuple[str, str]:
    async with Qmp(storage_daemon.qmp_socket(each.disk, each.place)) as daemon:
        return await storage_daemon.exported(daemon)


@pytest.mark.usefixtures("tools")
class TestWithCheckpoints:
    @pytest.fixture(params=KINDS)
    def each(self, request: pytest.FixtureRequest, tmp_path: Path, place: DiskPlace) -> Checkpoints:
        return made(request.param, tmp_path, place)

    @pytest.fixture
    def plain(self, tmp_path: Path, place: DiskPlace) -> Checkpoints:
        return made("raw", tmp_path, place)

    def test_the_guest_has_what_is_on_top(self, each: Checkpoints) -> None:
        each.make("one")
        before = each.layers.image.read_bytes()
        opened = run(opening.open_disk(each.disk, each.place))
        assert opened.description["type"] == "nbd"
        assert opened.description["size_bytes"] == MIB
        assert first(opened, MIB) == each.read_point("one")
        assert run(exported(each)) == (storage_daemon.NODE, str(each.number(1)))
        run(opened.abandon())
        assert each.layers.is_at("one") is True, "it has only been read"
        opened = run(opening.open_disk(each.disk, each.place))
        guest(opened, 1, at=512)
        run(opened.abandon())
        assert each.layers.is_at("one") is False
        assert each.layers.image.read_bytes() == before
        assert each.read()[:1536] == b"b" * 512 + b"\1" * 512 + b"b" * 512

    def test_nobody_writes_what_is_below(self, each: Checkpoints) -> None:
        each.make("one")
        each.make("two")
        opened = run(opening.open_disk(each.disk, each.place))
        for path, form in ((each.layers.image, each.layers.format("")), (each.number(1), Format.QCOW2)):
            wants = disk(path, vdev="xvdb", format=form)
            away = kit.of_another(replace(each.place, state=each.place.state / "no" / "other"))
            assert "is in use by another program" in run(refusal(opening.open_disk(wants, away))).message
            run(run(opening.open_disk(replace(wants, writable=False), away)).abandon())
        run(opened.abandon())

    def test_another_domain_wants_to_write_it(self, plain: Checkpoints, tmp_path: Path) -> None:
        """Nobody has it open, and still it is as it is for a reason."""
        states = tmp_path / "domains"
        for name in ("web", "mail"):
            (states / name).mkdir(parents=True)
        plain.place = replace(plain.place, state=states / "web")
        plain.make("one")
        mail = replace(kit.of_another(plain.place), name="mail", state=states / "mail")
        before = descriptors()
        error = run(refusal(opening.open_disk(plain.disk, mail)))
        assert "is kept as it is for checkpoints of web" in error.message
        assert descriptors() == before
        shared = run(opening.open_disk(replace(plain.disk, writable=False), mail))
        assert os.pread(shared.fds[0], 4, 0) == b"bbbb"
        mine = run(opening.open_disk(plain.disk, plain.place))
        guest(mine, 1)
        shared.close()
        run(mine.abandon())
        over = run(opening.open_disk(replace(plain.disk, overlay=True), mail))
        assert first(over, 4) == b"bbbb"
        run(over.abandon())

    def test_read_only(self, plain: Checkpoints) -> None:
        plain.make("one")
        plain.write(1)
        opened = run(opening.open_disk(replace(plain.disk, writable=False), plain.place))
        assert first(opened, 4) == b"\1\1\1\1"
        with pytest.raises(OSError, match="refuses"):
            guest(opened, 2)
        run(opened.abandon())

    def test_what_does_not_fit_any_more(self, each: Checkpoints) -> None:
        each.make("one")
        image = each.layers.image
        os.utime(image, ns=(1, image.stat().st_mtime_ns + 1))
        before = descriptors()
        error = run(refusal(opening.open_disk(each.disk, each.place)))
        assert f"{image.name} was changed since a checkpoint was made, and " in error.message
        assert descriptors() == before
        assert helpers.strays(each.place.run, ()) == []

    def test_it_does_not_come_from_another_host(self, plain: Checkpoints) -> None:
        plain.make("one")
        coming = replace(plain.place, arriving=True)
        error = run(refusal(opening.open_disk(plain.disk, coming)))
        assert "cannot come from another host" in error.message

    @pytest.mark.parametrize("kind", ["qcow2", "overlay"])
    def test_it_goes_over_while_it_runs(self, kind: str, tmp_path: Path, place: DiskPlace) -> None:
        """What QEMU still has to write into what is below is there when that is noted."""
        each = made(kind, tmp_path, place)
        opened = run(opening.open_disk(each.disk, each.place))
        guest(opened, 1)
        run(go_over(each, "one"))
        guest(opened, 2, at=512)
        run(go_over(each, "two"))
        assert run(exported(each)) == (f"n{each.number(2).stem}", str(each.number(2)))
        guest(opened, 3, at=1024)
        assert first(opened) == b"\1" * 512 + b"\2" * 512 + b"\3" * 512 + b"b" * 512
        run(opened.abandon())
        assert each.read_point("one") == data((1, 512), (0x62, 3584))
        assert each.read_point("two") == data((1, 512), (2, 512), (0x62, 3072))
        assert each.read() == data((1, 512), (2, 512), (3, 512), (0x62, 2560))
        each.go_back("one")
        again = run(opening.open_disk(each.disk, each.place))
        assert first(again, 1024) == b"\1" * 512 + b"b" * 512
        run(again.abandon())

    @pytest.mark.parametrize("written", [False, True])
    def test_killed_when_it_had_gone_over(self, written: bool, tmp_path: Path, place: DiskPlace) -> None:
        each = made("qcow2", tmp_path, place)
        opened = run(opening.open_disk(each.disk, each.place))
        guest(opened, 1)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("xenion.xend.disks.layers.Layers.commit", lambda *_: None)
            run(go_over(each, "one"))
        if written:
            guest(opened, 2, at=512)
        expected = first(opened)
        run(opened.abandon())
        assert each.note.next == each.number(1).name
        again = run(opening.open_disk(each.disk, each.place))
        assert first(again) == expected
        assert run(exported(each))[1] == str(each.number(1) if written else each.layers.image)
        run(again.abandon())

    def test_the_daemon_dies(self, each: Checkpoints) -> None:
        each.make("one")
        opened = run(opening.open_disk(each.disk, each.place))
        guest(opened, 5)
        kit.nbd(opened, kit.FLUSH, 0)
        opened.helpers[0].process.kill()
        run(opened.helpers[0].ended())
        again = run(opening.reopen(each.disk, each.place, opened.helpers))
        assert first(again, 1024) == b"\5" * 512 + b"b" * 512
        opened.close()
        run(again.abandon())


@pytest.mark.usefixtures("tools")
class TestAbove:
    def test_of_what_its_domain_still_writes(self, tmp_path: Path, place: DiskPlace) -> None:
        """It stands by; what is below is looked at when the guest asks for it."""
        each = made("raw", tmp_path, place)
        direct = run(opening.open_disk(each.disk, place))
        assert direct.description["type"] == "file"
        above = run(opening.open_above(each.disk, each.begin(), place))
        assert above.description == {
            **direct.description,
            "type": "nbd",
            "nbd": above.description["nbd"],
        }
        os.pwrite(direct.fds[0], b"last" * 128, 0)
        each.layers.commit("one")
        assert first(above, 1024) == b"last" * 128 + b"b" * 512
        guest(above, 1, at=512)
        assert os.pread(direct.fds[0], 1024, 0) == b"last" * 128 + b"b" * 512
        direct.close()
        run(above.abandon())
        assert each.read()[:1536] == b"last" * 128 + b"\1" * 512 + b"b" * 512
        assert each.read_point("one")[:1024] == b"last" * 128 + b"b" * 512

    def test_of_what_was_not_used(self, tmp_path: Path, place: DiskPlace) -> None:
        each = made("raw", tmp_path, place)
        direct = run(opening.open_disk(each.disk, place))
        above = run(opening.open_above(each.disk, each.begin(), place))
        run(above.abandon())
        direct.close()
        assert each.layers.top() is None
        assert each.files == set()

    def test_it_dies_before_it_is_noted(self, tmp_path: Path, place: DiskPlace) -> None:
        """The domain's process has gone over, and the guest has written nothing yet."""
        each = made("raw", tmp_path, place)
        above = run(opening.open_above(each.disk, each.begin(), place))
        above.helpers[0].process.kill()
        run(above.helpers[0].ended())
        again = run(opening.reopen(each.disk, place, above.helpers))
        assert again.description["type"] == "nbd"
        assert run(exported(each))[1] == str(each.number(1))
        assert first(again, 512) == b"b" * 512
        guest(again, 1)
        above.close()
        run(again.abandon())
        assert each.read()[:1024] == b"\1" * 512 + b"b" * 512

    def test_what_is_further_below_is_held(self, tmp_path: Path, place: DiskPlace) -> None:
        each = made("raw", tmp_path, place)
        each.make("one")
        above = run(opening.open_above(each.disk, each.begin(), place))
        away = replace(place, state=tmp_path / "away" / "mail")
        wants = disk(each.layers.image, vdev="xvdb")
        assert "is in use" in run(refusal(opening.open_disk(wants, away))).message
        run(above.abandon())

    def test_what_is_no_image(self, tmp_path: Path, place: DiskPlace) -> None:
        before = descriptors()
        each = made("raw", tmp_path, place)
        error = run(refusal(opening.open_above(each.disk, each.layers.image, place)))
        assert "is not a qcow2 image" in error.message
        assert descriptors() == before


@pytest.mark.parametrize(
    ("said", "file"),
    [
        ("/image", "/image"),
        ('json:{"driver": "qcow2", "file": {"driver": "file", "filename": "/image"}}', "/image"),
        ("json:{", ""),
        ("json:[]", ""),
        ('json:{"file": "node"}', ""),
        ('json:{"file": {}}', ""),
    ],
)
def test_how_qemu_tells_of_a_file(said: str, file: str) -> None:
    class Daemon:
        async def do(self, what: str, **_: object) -> list[dict[str, Any]]:
            if what == "query-block-exports":
                return [{"id": "other", "node-name": "b"}, {"id": storage_daemon.NODE, "node-name": "a"}]
            return [{"node-name": "b", "file": "no"}, {"node-name": "a", "file": said}]

    assert run(storage_daemon.exported(Daemon())) == ("a", file)  # type: ignore[arg-type]


def test_nothing_is_exported() -> None:
    class Daemon:
        async def do(self, *_: str, **__: object) -> list[dict[str, Any]]:
            return []

    assert run(storage_daemon.exported(Daemon())) == ("", "")  # type: ignore[arg-type]
