"""What checkpoints make of an image: what each of them, and the guest, reads then."""

import errno
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.xend.disks.kit import MIB, disk, qcow2, qcow2_disk, raw, refusal, run
from xenion.api.errors import ApiError
from xenion.config.disk import Disk, Format
from xenion.xend.disks import chain, overlay, qemu_img
from xenion.xend.disks import layers as module
from xenion.xend.disks.layers import Layers, Note, Stamp, all_layers, layers_of
from xenion.xend.disks.place import DiskPlace

pytestmark = pytest.mark.usefixtures("tools")
KINDS = ["raw", "qcow2", "overlay"]


def layers(disk: Disk, place: DiskPlace) -> Layers:
    found = layers_of(disk, place.state)
    assert found is not None
    return found


def io(path: Path, form: Format, *commands: str) -> None:
    """qemu-io's commands, as a guest's requests come to the image."""
    words = [word for command in commands for word in ("-c", command)]
    done = subprocess.run(
        ["qemu-io", "-f", form.value, "-d", "unmap", *words, str(path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "failed" not in done.stdout + done.stderr, done


def read(path: Path, form: Format) -> bytes:
    """All that a guest reads there."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "all"
        subprocess.run(["qemu-img", "convert", "-f", form.value, "-O", "raw", path, out], check=True)
        return out.read_bytes()


class Killed(Exception):
    """Nothing of xend's comes after it."""


class Checkpoints:
    """Of a disk that nobody has open: xend forgets all between two calls."""

    def __init__(self, disk: Disk, place: DiskPlace) -> None:
        self.disk = disk
        self.place = place
        if disk.overlay:
            run(overlay.prepare(disk, place))

    @property
    def layers(self) -> Layers:
        return layers(self.disk, self.place)

    @property
    def note(self) -> Note:
        return self.layers.known()

    @property
    def files(self) -> set[str]:
        """What there is but the image, by the numbers."""
        return {path.stem.removeprefix(f"{self.layers.key}-") for path in self.folder.glob("*.qcow2")}

    @property
    def folder(self) -> Path:
        return self.place.state / "layers"

    @property
    def notes(self) -> list[Path]:
        return list(self.folder.glob("*.json"))

    def number(self, number: int) -> Path:
        return self.folder / f"{self.layers.key}-{number}.qcow2"

    def top(self) -> tuple[Path, Format]:
        found = self.layers.top()
        return (found, Format.QCOW2) if found else (self.layers.image, self.layers.format(""))

    def io(self, *commands: str) -> None:
        io(*self.top(), *commands)

    def write(self, fill: int, at: int = 0, count: int = 512) -> None:
        self.io(f"write -q -P {fill} {at} {count}")

    def read(self) -> bytes:
        return read(*self.top())

    def begin(self) -> Path:
        return run(self.layers.begin(self.place))  # type: ignore[no-any-return]

    def make(self, point: str) -> None:
        self.begin()
        self.layers.commit(point)

    def go_back(self, point: str) -> Note:
        return run(self.layers.go_back(point, self.place))  # type: ignore[no-any-return]

    def move(self, name: str) -> Path:
        """As the domain's folder does when it gets another name."""
        new = self.place.state.rename(self.place.state.with_name(name))
        self.place = replace(self.place, name=name, state=new)
        return new

    def read_point(self, point: str) -> bytes:
        path, _ = self.layers.frozen(point)
        return read(path, self.layers.format(self.note.points[point]))


def made(kind: str, folder: Path, place: DiskPlace) -> Checkpoints:
    """`b` and zeros, 1 MiB of them."""
    plain = raw(folder / "base", data=b"b" * 4096)
    over = ("-F", "raw", "-b", str(plain))
    match kind:
        case "overlay":
            return Checkpoints(disk(plain, overlay=True), place)
        case "qcow2":
            return Checkpoints(qcow2_disk(qcow2(folder / "image", *over)), place)
    return Checkpoints(disk(plain), place)


@pytest.fixture(params=KINDS)
def each(request: pytest.FixtureRequest, tmp_path: Path, place: DiskPlace) -> Checkpoints:
    return made(request.param, tmp_path, place)


@pytest.fixture
def plain(tmp_path: Path, place: DiskPlace) -> Checkpoints:
    return made("raw", tmp_path, place)


def data(*parts: tuple[int, int], size: int = MIB) -> bytes:
    """From the beginning: so often this byte; then zeros."""
    return b"".join(bytes([fill]) * count for fill, count in parts).ljust(size, b"\0")


BASE = data((0x62, 4096))


# --- a checkpoint


def test_a_point_and_a_new_top(each: Checkpoints) -> None:
    image = each.layers.image
    before = image.read_bytes()
    assert each.layers.top() is None
    assert each.layers.written() == image
    path = each.begin()
    assert path == each.number(1)
    assert each.layers.written() == image, "until it is decided"
    note = each.layers.commit("one")
    assert (note.top, note.next, note.points) == (path.name, "", {"one": ""})
    assert each.layers.written() == path
    assert each.layers.top() == path
    assert each.read() == each.read_point("one") == BASE
    each.write(1)
    assert each.read() == data((1, 512), (0x62, 3584))
    assert each.read_point("one") == BASE
    assert image.read_bytes() == before
    assert each.layers.frozen("one") == (image, Stamp.of(image))
    assert each.folder.stat().st_mode & 0o077 == 0


def test_several(each: Checkpoints) -> None:
    expected = {}
    for number, point in enumerate(("one", "two", "three"), 1):
        each.make(point)
        expected[point] = each.read()
        each.write(number, at=number * 512)
    assert {point: each.read_point(point) for point in expected} == expected
    assert each.read() == data((0x62, 512), (1, 512), (2, 512), (3, 512), (0x62, 2048))
    assert len(set(expected.values())) == 3
    assert each.files == {"1", "2", "3"}
    chained = chain.find(each.disk, each.number(3), Format.QCOW2, each.place)
    assert [image.path.resolve() for image in chained][:4] == [
        *(each.number(number) for number in (3, 2, 1)),
        each.layers.image,
    ]


def test_it_moves_with_the_domain_s_folder(each: Checkpoints) -> None:
    each.make("one")
    each.write(1)
    each.make("two")
    each.write(2)
    before = each.read(), each.read_point("one"), each.read_point("two")
    new = each.move("renamed")
    assert each.top()[0].is_relative_to(new)
    assert (each.read(), each.read_point("one"), each.read_point("two")) == before
    each.layers.sweep()
    assert each.files == {"1", "2"}
    each.go_back("one")
    assert each.read() == BASE
    each.make("three")
    assert each.read_point("three") == BASE


def test_the_same_checkpoint_of_several_disks(tmp_path: Path, place: DiskPlace) -> None:
    """They share a folder, and nothing in it."""
    one = Checkpoints(disk(raw(tmp_path / "one", data=b"1")), place)
    two = Checkpoints(disk(raw(tmp_path / "two", data=b"2"), vdev="xvdb"), place)
    for each in (one, two):
        each.make("point")
        each.write(7)
    two.go_back("point")
    two.layers.sweep()
    one.layers.forget("point")
    one.layers.sweep()
    assert (one.read()[:2], two.read()[:2]) == (b"\7\7", b"2\0")
    assert two.read_point("point")[:2] == b"2\0"


@pytest.mark.parametrize("size", [512, 513, 1000, 66000, MIB + 1])
def test_of_any_size(tmp_path: Path, place: DiskPlace, size: int) -> None:
    """qcow2 counts whole sectors; the image keeps its size."""
    there = bytes(range(1, 251)) * (size // 250) + b"\7" * (size % 250)
    each = Checkpoints(disk(raw(tmp_path / "image", size, there)), place)
    each.make("one")
    assert each.read().rstrip(b"\0") == there
    assert each.read_point("one").rstrip(b"\0") == there
    each.write(9)
    each.make("two")
    assert each.read().rstrip(b"\0") == b"\t" * 512 + there[512:]
    assert (tmp_path / "image").read_bytes() == there


def test_of_large_sectors(tmp_path: Path, place: DiskPlace) -> None:
    """The guest's disk has as many as before, the last one filled up with zeros (dom0/block/disk.py)."""
    each = Checkpoints(disk(raw(tmp_path / "image", 66000), sector_bytes=4096), place)
    each.make("one")
    assert len(each.read()) == 17 * 4096


@pytest.mark.parametrize(
    "none",
    [disk("nbd://host", format=Format.NBD), disk("", cdrom=True, writable=False)],
    ids=["nbd", "empty"],
)
def test_disks_without_an_image(none: Disk, place: DiskPlace) -> None:
    assert layers_of(none, place.state) is None


def test_by_its_real_name(tmp_path: Path, place: DiskPlace) -> None:
    """Whatever link leads to it."""
    plain = made("raw", tmp_path, place)
    plain.make("one")
    plain.write(5)
    (tmp_path / "link").symlink_to("base")
    linked = Checkpoints(disk(tmp_path / "link"), place)
    assert linked.top() == plain.top()
    assert linked.layers.is_at("one") is False
    assert linked.read() == plain.read()


def test_a_real_name_that_is_no_text(tmp_path: Path, place: DiskPlace) -> None:
    """Linux takes any bytes."""
    image = raw(tmp_path / os.fsdecode(b"\xff"), data=b"b" * 4096)
    (tmp_path / "link").symlink_to(image.name)
    linked = Checkpoints(disk(tmp_path / "link"), place)
    assert linked.top() == (tmp_path / "link", Format.RAW)


# --- is_at


def test_whether_it_was_written_to(each: Checkpoints) -> None:
    assert each.layers.is_at("one") is False
    each.make("one")
    assert each.layers.is_at("one") is True
    each.io("read -q 0 512", "flush")
    assert each.layers.is_at("one") is True, "nothing was written"
    each.make("two")
    assert (each.layers.is_at("one"), each.layers.is_at("two")) == (False, True)
    each.write(0)
    assert each.layers.is_at("two") is False
    each.go_back("one")
    assert (each.layers.is_at("one"), each.layers.is_at("two")) == (True, False)


@pytest.mark.parametrize(
    "what", ["write -q -P 0 0 512", "write -q -z 0 64k", "discard -q 0 64k", "truncate 2M"]
)
def test_each_kind_of_writing_counts(plain: Checkpoints, what: str) -> None:
    plain.make("one")
    plain.io(what)
    assert plain.layers.is_at("one") is False


# --- going back


def tree(each: Checkpoints) -> dict[str, bytes]:
    """What there was at each point: one has two and three above it, three has four."""
    found = {}

    def point(name: str, fill: int) -> None:
        each.make(name)
        found[name] = each.read()
        each.write(fill, at=fill * 512)

    point("one", 1)
    point("two", 2)
    each.go_back("one")
    each.layers.sweep()
    each.write(3, at=3 * 512)
    point("three", 4)
    point("four", 5)
    return found


def test_a_tree(each: Checkpoints) -> None:
    expected = tree(each)
    assert len(set(expected.values())) == 4
    for point in ("two", "four", "one", "one", "three", "two"):
        each.go_back(point)
        assert each.read() == expected[point]
        assert each.layers.is_at(point) is True
        each.layers.sweep()
        assert each.layers.is_at(point) is True
        each.write(9, count=MIB)
        assert {name: each.read_point(name) for name in expected} == expected


def test_going_back_is_undone(each: Checkpoints) -> None:
    expected = tree(each)
    before, files = each.read(), each.files
    for point in expected:
        each.layers.undo(each.go_back(point))
        assert each.read() == before
        assert each.files == files, "nothing is left of it"
    each.layers.sweep()
    assert each.files == files
    assert {name: each.read_point(name) for name in expected} == expected


def test_going_back_to_what_is_not_there(plain: Checkpoints) -> None:
    error = run(refusal(plain.layers.go_back("none", plain.place)))
    assert error.code == "refused"
    assert "what it was then is not there any more: the checkpoint was deleted" in error.message
    plain.make("one")
    plain.write(1)
    assert "was deleted" in run(refusal(plain.layers.go_back("none", plain.place))).message
    assert plain.read() == data((1, 512), (0x62, 3584))


# --- what is kept


def test_what_nobody_needs_goes(each: Checkpoints) -> None:
    expected = tree(each)
    assert each.files == {"1", "3", "4", "5"}, "2 was what two was left for"
    (each.folder / "another-1.qcow2").touch()
    (each.folder / f"{each.layers.key}.txt").touch()
    each.layers.forget("two")
    each.layers.forget("two")
    each.layers.sweep()
    assert each.files == {"3", "4", "5", "another-1"}
    each.go_back("one")
    each.layers.sweep()
    assert each.files == {"3", "4", "6", "another-1"}
    for point in ("one", "three"):
        each.layers.forget(point)
        each.layers.sweep()
        assert each.read_point("four") == expected["four"]
        assert each.read() == expected["one"]
    assert each.files == {"3", "4", "6", "another-1"}, "four is over them"
    each.layers.forget("four")
    each.layers.sweep()
    assert each.files == {"6", "another-1"}
    assert each.read() == expected["one"]
    assert len(list(each.folder.iterdir())) == 4


def test_what_is_being_made_is_kept(plain: Checkpoints) -> None:
    plain.make("one")
    plain.begin()
    plain.layers.sweep()
    assert plain.files == {"1", "2"}


def test_nothing_to_do(plain: Checkpoints) -> None:
    plain.layers.sweep()
    plain.layers.forget("none")
    assert plain.layers.withdraw() is None
    assert plain.layers.settled() is None
    assert not plain.folder.exists()
    with pytest.raises(ApiError, match=r"json is gone$") as caught:
        plain.layers.commit("one")
    assert caught.value.code == "failed"


# --- killed on the way


def test_killed_before_it_went_over(each: Checkpoints) -> None:
    each.begin()
    assert each.read() == BASE
    assert (each.files, each.notes) == (set(), [])
    each.make("one")
    each.write(1)
    each.begin()
    assert each.layers.is_at("one") is False
    assert each.files == {"1"}
    assert each.read()[:2] == b"\1\1"
    each.begin()
    assert each.layers.withdraw() == each.layers.withdraw() == each.note
    assert each.files == {"1"}
    each.make("two")
    assert each.files == {"1", "3" if each.number(3).exists() else "4"}, "no number comes twice"


def test_killed_when_it_had_gone_over(each: Checkpoints) -> None:
    """The guest has written to the new file: it is its disk, though no checkpoint knows of it."""
    for fill in (1, 2):
        io(each.begin(), Format.QCOW2, f"write -q -P {fill} {fill * 512} 512")
        assert each.layers.settled() == each.layers.settled() == each.note
        assert each.note.next == ""
        assert each.note.points == {}
        expected = data((0x62, 512), (1, 512), (2 if fill == 2 else 0x62, 512), (0x62, 2560))
        assert each.read() == expected
    each.make("one")
    assert each.read_point("one") == expected


def test_killed_when_its_process_had_gone_over(plain: Checkpoints) -> None:
    """To a storage daemon, which a raw image has in that case alone."""
    plain.begin()
    note = plain.layers.settled(served=True)
    assert note == plain.note
    assert note.top == plain.number(1).name
    assert plain.read() == BASE
    plain.make("one")
    plain.begin()
    note = plain.layers.settled(served=True)
    assert note == plain.note
    assert note.top == plain.number(2).name, "now it has had one all the time"
    assert plain.files == {"1", "2"}


@pytest.mark.parametrize("kind", ["qcow2", "overlay"])
def test_killed_when_its_daemon_had_not(kind: str, tmp_path: Path, place: DiskPlace) -> None:
    each = made(kind, tmp_path, place)
    each.begin()
    each.layers.settled(served=True)
    assert (each.files, each.notes) == (set(), [])
    assert each.read() == BASE


@pytest.mark.parametrize("points", [0, 1])
def test_the_next_one_is_missing(plain: Checkpoints, points: int) -> None:
    if points:
        plain.make("one")
    plain.begin().unlink()
    before = data((0x62, 4096))
    assert plain.read() == before
    assert len(plain.notes) == points
    plain.make("two")
    assert plain.read_point("two") == before


def test_the_next_one_cannot_be_looked_at(plain: Checkpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the guest has written may be in it."""
    path = plain.begin()
    io(path, Format.QCOW2, "write -q -P 1 0 512")
    with monkeypatch.context() as patched:
        patched.setattr(Stamp, "of", staticmethod(_fails))
        with pytest.raises(ApiError, match="Input/output error"):
            plain.layers.settled()
    assert plain.read()[:2] == b"\1\1"


def _fails(path: Path) -> Stamp:
    raise OSError(errno.EIO, "Input/output error", str(path))


def test_a_file_without_a_note(plain: Checkpoints) -> None:
    """Killed before the note was written: the next one takes its name."""
    plain.folder.mkdir()
    plain.number(1).write_bytes(b"half a file")
    (plain.folder / f".{plain.layers.key}.json.new").write_bytes(b'{"base"')
    assert plain.layers.top() is None
    plain.make("one")
    assert plain.read() == BASE
    plain.number(3).write_bytes(b"half a file")
    plain.layers.sweep()
    assert plain.files == {"1"}


def test_killed_while_it_went_back(plain: Checkpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    plain.make("one")
    plain.write(1)
    before = plain.read()

    def killed(*_: object) -> Note:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(Note, "on_top", killed)
        with pytest.raises(Killed):
            run(plain.layers.go_back("one", plain.place))
    assert plain.files == {"1", "2"}
    assert plain.read() == before
    assert plain.files == {"1"}
    plain.go_back("one")
    assert plain.read() == BASE
    plain.layers.sweep()
    assert len(plain.files) == 1


# --- what does not work


def test_qemu_img_does_not_make_it(plain: Checkpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    plain.make("one")
    before = plain.note

    async def fails(disk: Disk, *_: object) -> None:
        raise ApiError("failed", "no space")

    monkeypatch.setattr(qemu_img, "run", fails)
    assert run(refusal(plain.layers.begin(plain.place))).message == "no space"
    assert run(refusal(plain.layers.go_back("one", plain.place))).message == "no space"
    assert plain.note == before


def test_the_note_cannot_be_written(plain: Checkpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    plain.make("one")
    before = plain.note

    def full(path: Path, *_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(module, "write_json", full)
    assert "No space left" in run(refusal(plain.layers.begin(plain.place))).message
    with pytest.raises(ApiError, match=r"disk xvda: .*json: No space left"):
        plain.layers.forget("one")
    assert plain.note == before


NONSENSE = {
    "empty": "",
    "half": '{"base": "/x", "top": "',
    "list": "[]",
    "null": "null",
    "no base": "{}",
    "base": '{"base": 1}',
    "top": '{"base": "", "top": null}',
    "fresh": '{"base": "", "fresh": [1, 2]}',
    "fresh size": '{"base": "", "fresh": {"size": "1", "mtime_ns": 1}}',
    "number": '{"base": "", "number": 1.5}',
    "frozen": '{"base": "", "frozen": {"": 1}}',
    "points": '{"base": "", "points": ["one"]}',
    "deep": "[" * 100_000,
    "binary": "\xff\xfe",
}


@pytest.mark.parametrize("text", list(NONSENSE.values()), ids=list(NONSENSE))
def test_a_damaged_note(plain: Checkpoints, text: str) -> None:
    """Nothing is done then: least of all the image is opened, or a file deleted."""
    plain.make("one")
    (note,) = plain.notes
    note.write_bytes(text.encode("latin-1"))
    found = plain.layers
    for work in (
        lambda: found.top(),
        lambda: found.frozen("one"),
        lambda: found.is_at("one"),
        found.settled,
        found.written,
        found.sweep,
        found.withdraw,
        lambda: found.commit("two"),
        lambda: found.forget("one"),
    ):
        with pytest.raises(ApiError, match=rf"^disk xvda: {note} is damaged, [^\n]+$") as caught:
            work()
        assert caught.value.code == "failed"
    run(refusal(found.begin(plain.place)))
    run(refusal(found.go_back("one", plain.place)))
    assert plain.files == {"1"}
    assert note.read_bytes() == text.encode("latin-1")


@pytest.mark.parametrize(
    "name",
    [
        "\0",
        "\ud800",
        *("x" * 300, "a/b", ".", "/dev/null"),
    ],
    ids=repr,
)
def test_a_note_of_names_that_cannot_be(plain: Checkpoints, name: str) -> None:
    plain.make("one")
    (note,) = plain.notes
    for key in ("top", "next"):
        note.write_text(json.dumps({**json.loads(note.read_text()), key: name}))
        for work in (lambda: plain.layers.is_at("one"), lambda: plain.layers.top()):
            with pytest.raises(ApiError):
                work()


def utime(path: Path) -> None:
    os.utime(path, ns=(1, path.stat().st_mtime_ns + 1))


def longer(path: Path) -> None:
    status = path.stat()
    os.truncate(path, status.st_size + 512)
    os.utime(path, ns=(1, status.st_mtime_ns))


def another(path: Path) -> None:
    new = shutil.copyfile(path, path.with_name("copy"))
    new.replace(path)


CHANGES: list[Callable[[Path], None]] = [utime, longer, another]


@pytest.mark.parametrize("change", CHANGES, ids=["time", "size", "file"])
@pytest.mark.parametrize("below", [0, 1])
def test_what_is_below_was_changed(each: Checkpoints, below: int, change: Callable[[Path], None]) -> None:
    each.make("one")
    each.write(1)
    each.make("two")
    each.write(2)
    path = each.number(below) if below else each.layers.image
    change(path)
    with pytest.raises(
        ApiError, match=r"was changed since a checkpoint was made, and .* put it back"
    ) as caught:
        each.layers.top()
    assert caught.value.code == "refused"
    assert "\n" not in caught.value.message
    broken, whole = ("one", "two") if below == 0 else ("two", "one")
    with pytest.raises(ApiError, match=rf"^disk xvda: {path} was changed since the checkpoint was made: put"):
        each.layers.frozen(broken)
    assert "was changed" in run(refusal(each.layers.go_back(broken, each.place))).message
    each.layers.frozen(whole)
    assert each.files == {"1", "2"}


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_file_is_missing(each: Checkpoints, which: int) -> None:
    each.make("one")
    each.make("two")
    path = each.number(which) if which else each.layers.image
    away = path.rename(path.with_name("away"))
    with pytest.raises(ApiError, match=rf"{path.name} does not exist: "):
        each.layers.top()
    if which:
        with pytest.raises(ApiError, match=rf"{path.name} does not exist: "):
            each.layers.sweep()
    if which < 2:
        assert (
            "does not exist" in run(refusal(each.layers.go_back(("one", "two")[which], each.place))).message
        )
    away.rename(path)
    assert each.read() == BASE, "nothing was done meanwhile"


@pytest.mark.parametrize("rubbish", [b"", b"QFI\xfb", b"rubbish" * 100])
@pytest.mark.parametrize("number", [1, 2])
def test_a_layer_was_overwritten(plain: Checkpoints, number: int, rubbish: bytes) -> None:
    plain.make("one")
    plain.make("two")
    path = plain.number(number)
    path.write_bytes(rubbish)
    says = rf"^disk xvda: {path} (is not a qcow2 image|ends within)"
    with pytest.raises(ApiError, match=says):
        plain.layers.sweep()
    with pytest.raises(ApiError, match=says):
        plain.layers.top()
    assert plain.files == {"1", "2"}


def test_a_chain_that_is_too_long(plain: Checkpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused before it is made: nobody could open it."""
    monkeypatch.setattr(chain, "LONGEST", 4)
    for point in ("one", "two", "three"):
        plain.make(point)
    error = run(refusal(plain.layers.begin(plain.place)))
    assert f"there are 3 files below {plain.number(3)} already: merge checkpoints first" in error.message
    assert plain.files == {"1", "2", "3"}
    assert plain.read() == BASE


# --- all of a domain's


def test_all_that_a_domain_has(tmp_path: Path, place: DiskPlace) -> None:
    assert all_layers(place.state) == []
    (tmp_path / "link").symlink_to(raw(tmp_path / "one"))
    mine = [
        Checkpoints(disk(tmp_path / "link", vdev="xvdb"), place),
        Checkpoints(qcow2_disk(qcow2(tmp_path / "two"), vdev="xvdc"), place),
        Checkpoints(disk(tmp_path / "one", overlay=True), place),
    ]
    for each in mine:
        each.make("point")
        each.write(7)
    place = replace(place, state=mine[0].move("renamed"))
    for each in mine:
        each.place = place
    found = {one.key: one for one in all_layers(place.state)}
    assert len(found) == 3
    for each in mine:
        one = found[each.layers.key]
        assert one.disk.vdev == each.disk.vdev
        assert one.image.samefile(each.layers.image)
        assert one.format("") is each.layers.format("")
        assert one.top() == each.layers.top()
        one.forget("point")
        assert each.note.points == {}


@pytest.mark.parametrize("text", ["", "[]", '{"base": "x"}', '{"base": 1}'])
def test_a_note_of_nonsense_among_them(plain: Checkpoints, text: str) -> None:
    plain.make("one")
    note = plain.folder / "0.json"
    note.write_text(text)
    with pytest.raises(ApiError, match=rf"^{note} is damaged, [^\n]+$"):
        all_layers(plain.place.state)


# --- other domains


def other(place: DiskPlace, name: str) -> DiskPlace:
    state = place.state.with_name(name)
    state.mkdir()
    return replace(place, name=name, uuid="2", state=state)


def test_another_domain_wants_to_write_it(plain: Checkpoints, tmp_path: Path) -> None:
    place = replace(plain.place, state=tmp_path / "domains" / "web")
    place.state.mkdir(parents=True)
    plain.place = place
    mail = other(place, "mail")
    (tmp_path / "link").symlink_to("base")
    linked = disk(tmp_path / "link")
    layers(linked, mail).check_free()
    plain.make("one")
    with pytest.raises(
        ApiError, match=r"of web, whose disk goes on in another file: .*checkpoint-merge web"
    ) as caught:
        layers(linked, mail).check_free()
    assert caught.value.code == "refused"
    assert caught.value.message.startswith(f"disk xvda: {tmp_path / 'link'} is kept as it is for checkpoints")
    plain.layers.check_free()
    layers(replace(plain.disk, vdev="xvdb"), place).check_free()
    layers(disk(raw(tmp_path / "else")), mail).check_free()
    (plain.folder / f"{plain.layers.key}.json").unlink()
    layers(linked, mail).check_free()


def test_overlays_of_several_domains(tmp_path: Path, place: DiskPlace) -> None:
    """Each has its own of the same image, under the same name in its folder."""
    (tmp_path / "domains").mkdir()
    base = disk(raw(tmp_path / "base"), overlay=True)
    web, mail = (
        Checkpoints(base, other(replace(place, state=tmp_path / "domains" / "x"), n)) for n in ("web", "mail")
    )
    for each in (web, mail):
        each.make("one")
        each.layers.check_free()
    web.write(1)
    assert mail.read()[:1] == b"\0"


# --- what headers name


@pytest.mark.parametrize("backing", ["../../secret.qcow2", "/etc/passwd", "0.qcow2"])
def test_a_header_that_names_something_else(plain: Checkpoints, backing: str) -> None:
    """It is followed nowhere, and nothing is deleted for it."""
    plain.make("one")
    rebase = ["qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "raw", "-b", backing, str(plain.number(1))]
    subprocess.run(rebase, check=True)
    for work in (plain.layers.top, plain.layers.sweep, lambda: plain.layers.is_at("one")):
        with pytest.raises(ApiError, match="where nothing of ours is"):
            work()
    assert plain.files == {"1"}


def test_layers_without_an_end(plain: Checkpoints) -> None:
    plain.make("one")
    rebase = ["qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", plain.number(1).name]
    subprocess.run([*rebase, str(plain.number(1))], check=True)
    with pytest.raises(ApiError, match="too long or has no end"):
        plain.layers.top()
