"""Layers that become one: what the guest and each point read never changes, wherever it was broken off."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from tests.unit.xend.disks.kit import MIB, disk, qcow2, qcow2_disk, raw, run
from tests.unit.xend.disks.test_layers import BASE, KINDS, Checkpoints, Killed, data, io, made, read
from xenion.api.errors import ApiError
from xenion.config.disk import Disk, Format
from xenion.dom0.block import locks
from xenion.xend.disks import qemu_img
from xenion.xend.disks.layers import all_layers
from xenion.xend.disks.merging import merge
from xenion.xend.disks.place import DiskPlace
from xenion.xend.storage import remove, write_json

pytestmark = pytest.mark.usefixtures("tools")


def merged(each: Checkpoints) -> list[str]:
    """The numbers of the files that went, as they were told."""

    async def work() -> list[str]:
        return [path.stem.rpartition("-")[2] async for path in merge(each.layers)]

    return run(work())  # type: ignore[no-any-return]


def all_read(each: Checkpoints) -> dict[str, bytes]:
    """Of each point, and of the guest ("top"); whether xend would still take them is another question."""
    note = each.layers.settled()
    names = {**note.points, "top": note.top} if note else {"top": ""}
    contents = {name: read(each.layers.path(name), each.layers.format(name)) for name in set(names.values())}
    return {point: contents[name] for point, name in names.items()}


def check_taken(each: Checkpoints) -> None:
    """It still takes them. ApiError."""
    each.layers.top()
    note = each.layers.read()
    for point in note.points if note else ():
        each.layers.frozen(point)


def chained(each: Checkpoints, points: str) -> None:
    """A checkpoint for each letter, and after each something that is written."""
    for fill, point in enumerate(points, 1):
        each.make(point)
        each.write(fill, at=fill * 512)


def forget(each: Checkpoints, points: str) -> None:
    for point in points:
        each.layers.forget(point)


@pytest.fixture(params=KINDS)
def each(request: pytest.FixtureRequest, tmp_path: Path, place: DiskPlace) -> Checkpoints:
    return made(request.param, tmp_path, place)


@pytest.fixture
def plain(tmp_path: Path, place: DiskPlace) -> Checkpoints:
    return made("raw", tmp_path, place)


# --- what goes, and what stays


def test_all_in_one_file(each: Checkpoints) -> None:
    chained(each, "abc")
    before = each.read()
    forget(each, "abc")
    assert each.read() == before
    assert merged(each) == ["1", "2", "3"]
    assert each.top() == (each.layers.image, each.layers.format(""))
    assert each.read() == before == data((0x62, 512), (1, 512), (2, 512), (3, 512), (0x62, 2048))
    assert list(each.folder.iterdir()) == [], "nothing tells of it any more"
    assert merged(each) == []
    each.make("again")
    assert each.read_point("again") == before


@pytest.mark.parametrize(
    ("gone", "goes", "stays"),
    [
        ("", [], {"1", "2", "3", "4"}),
        ("a", ["1"], {"2", "3", "4"}),
        ("b", ["2"], {"1", "3", "4"}),
        ("d", ["4"], {"1", "2", "3"}),
        ("abc", ["1", "2", "3"], {"4"}),
        ("bcd", ["2", "3", "4"], {"1"}),
        ("ad", ["1", "4"], {"2", "3"}),
    ],
)
def test_points_in_between_are_kept(plain: Checkpoints, gone: str, goes: list[str], stays: set[str]) -> None:
    chained(plain, "abcd")
    forget(plain, gone)
    expected = all_read(plain)
    assert merged(plain) == goes
    assert plain.files == stays
    assert all_read(plain) == expected
    assert set(expected) == {"top", *"abcd"} - set(gone)


@pytest.mark.parametrize("gone", ["", "d", "ac", "abc", "bcd"])
def test_they_are_still_taken(plain: Checkpoints, gone: str) -> None:
    chained(plain, "abcd")
    forget(plain, gone)
    merged(plain)
    check_taken(plain)
    plain.write(9)
    check_taken(plain)


@pytest.mark.parametrize("gone", ["a", "b", "ad"])
def test_what_comes_above_is_still_taken(plain: Checkpoints, gone: str) -> None:
    """A point whose file gets another one below it."""
    chained(plain, "abcd")
    forget(plain, gone)
    merged(plain)
    check_taken(plain)


def test_the_guest_is_still_where_it_was(plain: Checkpoints) -> None:
    """Nothing was written since the last checkpoint: `xm restore` need not go back for that."""
    chained(plain, "a")
    plain.make("b")
    forget(plain, "a")
    merged(plain)
    assert plain.layers.is_at("b") is True


def test_the_guest_has_written(plain: Checkpoints) -> None:
    chained(plain, "ab")
    forget(plain, "a")
    merged(plain)
    assert plain.layers.is_at("b") is False
    forget(plain, "b")
    merged(plain)
    assert plain.layers.is_at("b") is False


def branched(each: Checkpoints) -> dict[str, bytes]:
    """a, b, c, d one above the other; e, f and the guest above b; then a, c and e are forgotten."""
    chained(each, "abcd")
    each.go_back("b")
    each.layers.sweep()
    each.write(5, at=5 * 512)
    for fill, point in ((6, "e"), (7, "f")):
        each.make(point)
        each.write(fill, at=fill * 512)
    forget(each, "ace")
    assert each.files == {"1", "2", "3", "5", "6", "7"}
    found = all_read(each)
    assert set(found) == {"b", "d", "f", "top"}
    return found


def test_branches(each: Checkpoints) -> None:
    expected = branched(each)
    assert merged(each) == ["1", "6"]
    assert all_read(each) == expected
    forget(each, "f")
    assert merged(each) == ["7"]
    assert each.read() == expected["top"]
    forget(each, "b")
    assert merged(each) == [], "d and the guest have one below them in common"
    del expected["b"], expected["f"]
    assert all_read(each) == expected
    forget(each, "d")
    assert merged(each) == ["5"]
    assert each.top()[0] == each.layers.image
    assert each.read() == expected["top"]


def test_what_is_swept(plain: Checkpoints) -> None:
    """What nobody needs is never put into anything."""
    expected = branched(plain)
    plain.go_back("d")
    forget(plain, "f")
    assert merged(plain) == ["1", "3"]
    del expected["f"]
    assert all_read(plain) == {**expected, "top": expected["d"]}


def test_found_again_by_what_the_notes_say(each: Checkpoints) -> None:
    """As `xm checkpoint-merge` finds them, for which there is no configuration."""
    chained(each, "ab")
    forget(each, "ab")
    before = each.read()
    (found,) = all_layers(each.place.state)

    async def work() -> list[Path]:
        return [path async for path in merge(found)]

    assert run(work()) == [each.number(1), each.number(2)]
    assert each.read() == before
    assert all_layers(each.place.state) == []


def test_in_a_folder_with_another_name(each: Checkpoints) -> None:
    expected = branched(each)
    each.move("renamed")
    assert merged(each) == ["1", "6"]
    assert all_read(each) == expected
    each.move("again")
    assert all_read(each) == expected


def test_broken_off_before_it_began(plain: Checkpoints) -> None:
    chained(plain, "a")
    forget(plain, "a")
    before = plain.note

    async def work() -> None:
        async for _ in (steps := merge(plain.layers)):
            break
        await steps.aclose()  # type: ignore[attr-defined]

    run(work())
    assert plain.note == before


@pytest.mark.parametrize("written", [False, True])
def test_after_a_checkpoint_that_was_killed(plain: Checkpoints, written: bool) -> None:
    chained(plain, "a")
    forget(plain, "a")
    path = plain.begin()
    if written:
        io(path, Format.QCOW2, "write -q -P 9 0 512")
    assert merged(plain) == (["1", "2"] if written else ["1"])
    assert plain.read()[:1024] == (b"\t" if written else b"b") * 512 + b"\1" * 512


# --- sizes


@pytest.mark.parametrize("size", [512, 513, 1000, 66000, MIB + 1])
@pytest.mark.parametrize("at", [0, -1])
def test_sizes_that_are_no_multiple(tmp_path: Path, place: DiskPlace, size: int, at: int) -> None:
    """The layers have whole sectors, and so has the image once something came near its end."""
    sectors = -(-size // 512)
    each = Checkpoints(disk(raw(tmp_path / "image", size, b"i" * size)), place)
    each.make("a")
    each.write(1, at=at % sectors * 512)
    expected = each.read()
    assert len(expected) == sectors * 512
    forget(each, "a")
    merged(each)
    image = (tmp_path / "image").read_bytes()
    assert image.ljust(len(expected), b"\0") == each.read() == expected
    assert len(image) in (size, len(expected))


@pytest.mark.parametrize("form", [Format.RAW, Format.QCOW2])
def test_a_disk_that_has_grown(tmp_path: Path, place: DiskPlace, form: Format) -> None:
    """Its points keep their sizes; what is below it grows when all of it goes there."""
    path = tmp_path / "image"
    each = Checkpoints(
        disk(raw(path, data=b"b" * 4096)) if form is Format.RAW else qcow2_disk(qcow2(path)), place
    )
    each.make("a")
    each.io("truncate 2M", f"write -q -P 7 {MIB - 512} 1024")
    each.make("b")
    each.io("truncate 3M", f"write -q -P 8 {3 * MIB - 512} 512")
    each.make("c")
    expected = all_read(each)
    assert [len(expected[point]) // MIB for point in ("a", "b", "c", "top")] == [1, 2, 3, 3]
    for point in "abc":
        each.layers.forget(point)
        del expected[point]
        merged(each)
        assert all_read(each) == expected
    assert each.top() == (path, form)
    if form is Format.RAW:
        assert path.stat().st_size == 3 * MIB


def test_zeros_and_holes(each: Checkpoints) -> None:
    """What was freed above something is zeros below, too."""
    each.make("a")
    each.io("write -q -z 0 1024", "discard -q 0 64k", "write -q -P 4 3584 512", "discard -q 512k 64k")
    expected = each.read()
    forget(each, "a")
    merged(each)
    assert each.read() == expected
    assert expected[3584:4096] == b"\4" * 512


# --- refused


def changed(path: Path) -> None:
    """A byte that nothing above it hides, by somebody who does not ask."""
    before = path.stat().st_mtime_ns
    with path.open("r+b") as file:
        file.seek(MIB - 512)
        file.write(b"changed")
    os.utime(path, ns=(1, before + 1))


def test_what_is_below_was_changed(plain: Checkpoints) -> None:
    chained(plain, "ab")
    forget(plain, "a")
    before = plain.note
    changed(plain.layers.image)
    with pytest.raises(ApiError, match="was changed since a checkpoint was made"):
        merged(plain)
    assert plain.note == before


def test_what_is_below_is_in_use(plain: Checkpoints) -> None:
    chained(plain, "a")
    forget(plain, "a")
    before, files = plain.read(), plain.files
    with plain.layers.image.open("rb") as file:
        locks.take(file.fileno(), writable=False)
        with pytest.raises(ApiError, match=rf"^disk xvda: .*{plain.layers.image}") as caught:
            merged(plain)
        assert caught.value.code == "failed"
        assert "\n" not in caught.value.message
        assert plain.read() == before
        assert plain.files == files
    assert merged(plain) == ["1"]
    assert plain.read() == before


def test_what_is_below_is_watched_until_it_goes(plain: Checkpoints) -> None:
    """Nothing was merged, so it still has to be as it was."""
    chained(plain, "a")
    forget(plain, "a")
    with plain.layers.image.open("rb") as file:
        locks.take(file.fileno(), writable=False)
        with pytest.raises(ApiError):
            merged(plain)
    changed(plain.layers.image)
    with pytest.raises(ApiError, match="was changed since a checkpoint was made"):
        plain.layers.top()


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_file_is_missing(plain: Checkpoints, which: int) -> None:
    chained(plain, "ab")
    forget(plain, "ab")
    expected = plain.read()
    path = plain.number(which) if which else plain.layers.image
    away = path.rename(path.with_name("away"))
    with pytest.raises(ApiError, match=rf"^disk xvda: .*{path}"):
        merged(plain)
    away.rename(path)
    merged(plain)
    assert plain.read() == expected


# --- killed


@contextmanager
def killed(before: int) -> Iterator[list[str]]:
    """Before this one of the steps that change something on the disk, which are counted here."""
    steps: list[str] = []

    def step(name: str) -> None:
        if len(steps) == before:
            raise Killed
        steps.append(name)

    def stepping(known: Callable[..., Any], name: str) -> Callable[..., Any]:
        def do(*given: Any, **more: Any) -> Any:
            step(name)
            return known(*given, **more)

        return do

    really = qemu_img.run

    async def qemu(disk: Disk, *words: str, patient: bool = False) -> None:
        step(f"qemu-img {words[0]}")
        await really(disk, *words, patient=patient)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(qemu_img, "run", qemu)
        patched.setattr("xenion.xend.disks.layers.write_json", stepping(write_json, "write"))
        patched.setattr("xenion.xend.disks.layers.remove", stepping(remove, "remove"))
        patched.setattr(Path, "unlink", stepping(Path.unlink, "unlink"))
        with suppress(Killed):
            yield steps


class Folder:
    """As it was, as often as it is wanted: times and all."""

    def __init__(self, folder: Path, kept: Path) -> None:
        self._folder, self._kept = folder, kept
        shutil.copytree(folder, kept)

    def again(self) -> None:
        shutil.rmtree(self._folder)
        shutil.copytree(self._kept, self._folder)


@dataclass
class Broken:
    """A merge that is killed before each of its steps, one after the other."""

    each: Checkpoints
    folder: Folder
    expected: dict[str, bytes]
    steps: int = 0
    left: set[str] = field(default_factory=set)

    def __iter__(self) -> Iterator[int]:
        for before in range(self.steps):
            self.folder.again()
            with killed(before) as done:
                merged(self.each)
            assert len(done) == before
            yield before


@pytest.fixture
def broken(request: pytest.FixtureRequest, tmp_path: Path, place: DiskPlace) -> Broken:
    (tmp_path / "work" / "state").mkdir(parents=True)
    each = made(request.param, tmp_path / "work", replace(place, state=tmp_path / "work" / "state"))
    expected = branched(each)
    made_so = Broken(each, Folder(tmp_path / "work", tmp_path / "kept"), expected)
    with killed(-1) as steps:
        merged(each)
    assert [step for step in steps if step.startswith("qemu")] == [
        *["qemu-img commit", "qemu-img rebase", "qemu-img rebase"],
        *["qemu-img commit", "qemu-img rebase"],
    ]
    made_so.steps, made_so.left = len(steps), each.files
    return made_so


both = pytest.mark.parametrize("broken", ["raw", "overlay"], indirect=True)


@both
def test_killed_at_each_step(broken: Broken) -> None:
    for _ in broken:
        assert all_read(broken.each) == broken.expected
        merged(broken.each)
        assert all_read(broken.each) == broken.expected


@both
def test_the_next_one_does_what_was_left(broken: Broken) -> None:
    found = []
    for before in broken:
        merged(broken.each)
        if broken.each.files != broken.left:
            found.append((before, broken.each.files))
    assert found == []


@both
def test_killed_at_each_step_they_are_still_taken(broken: Broken) -> None:
    for _ in broken:
        check_taken(broken.each)


def test_killed_while_it_was_put_below(plain: Checkpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of it is there."""
    chained(plain, "ab")
    plain.write(9, at=MIB // 2, count=MIB // 4)
    forget(plain, "a")
    expected = all_read(plain)
    really, image = qemu_img.run, plain.layers.image
    before = image.read_bytes()

    async def half(disk: Disk, *words: str, patient: bool = False) -> None:
        await really(disk, *words, patient=patient)
        image.write_bytes(image.read_bytes()[:700] + before[700:])
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(qemu_img, "run", half)
        with pytest.raises(Killed):
            merged(plain)
    assert image.read_bytes() not in (before, expected["b"])
    assert all_read(plain) == expected
    merged(plain)
    assert all_read(plain) == expected


def test_the_guest_goes_on_in_between(plain: Checkpoints) -> None:
    """Before the next merge it has written, freed and gone back."""
    chained(plain, "abc")
    forget(plain, "bc")
    with killed(2) as steps:
        merged(plain)
    assert steps == ["write", "qemu-img commit"]
    plain.io("write -q -P 8 1024 512", "discard -q 0 64k", "write -q -P 9 64k 4k")
    plain.make("d")
    plain.write(5)
    expected = all_read(plain)
    merged(plain)
    assert all_read(plain) == expected
    plain.go_back("a")
    merged(plain)
    assert all_read(plain) == {**expected, "top": BASE}


# --- whatever is done, in whatever order, killed wherever


@dataclass
class Model:
    """A disk, and what has to be read of it."""

    each: Checkpoints
    top: bytes
    points: dict[str, bytes] = field(default_factory=dict)
    made: int = 0

    def pick(self, number: int) -> str | None:
        return sorted(self.points)[number % len(self.points)] if self.points else None

    def written(self, kind: str, at: int, count: int, fill: int) -> None:
        size = len(self.top)
        at = at * 512 % size
        count = min(count * 512, size - at)
        if kind == "grow":
            size += count
            self.each.io(f"truncate {size}")
            self.top = self.top.ljust(size, b"\0")
            return
        zeros = kind == "zero" or at + count == size
        self.each.io(f"write -q {'-z' if zeros else f'-P {fill}'} {at} {count}")
        self.top = self.top[:at] + bytes([0 if zeros else fill]) * count + self.top[at + count :]

    def do(self, kind: str, number: int, before: int) -> None:
        """`before`: killed there, then it has been done or has not."""
        point, tops, points = self.pick(number), {self.top}, dict(self.points)
        with killed(before):
            match kind:
                case "checkpoint":
                    self.made += 1
                    points[f"p{self.made}"] = self.top
                    self.each.make(f"p{self.made}")
                case "begin":
                    self.each.begin()
                case "gone over":
                    tops.add(b"\7" * 512 + self.top[512:])
                    io(self.each.begin(), Format.QCOW2, "write -q -P 7 0 512")
                case "forget" if point is not None:
                    del points[point]
                    self.each.layers.forget(point)
                case "go back" if point is not None:
                    tops = {self.top, points[point]} if before < 8 else {points[point]}
                    self.each.go_back(point)
                case "undo" if point is not None:
                    tops = {self.top, points[point]} if before < 8 else {self.top}
                    self.each.layers.undo(self.each.go_back(point))
                case "sweep":
                    self.each.layers.sweep()
                case "merge":
                    merged(self.each)
        self._compare(tops, points)

    def _compare(self, tops: set[bytes], points: dict[str, bytes]) -> None:
        found = all_read(self.each)
        self.top = found.pop("top")
        assert self.top in tops
        assert self.points.keys() & points.keys() <= found.keys() <= self.points.keys() | points.keys()
        self.points = {point: {**self.points, **points}[point] for point in found}
        assert found == self.points


WRITES = st.tuples(
    st.sampled_from(["fill", "fill", "zero", "grow"]),
    st.integers(0, 2100),
    st.integers(1, 300),
    st.integers(1, 255),
)
WORKS = st.tuples(
    st.sampled_from(
        [
            "checkpoint",
            "checkpoint",
            "forget",
            "forget",
            "go back",
            "undo",
            "sweep",
            "merge",
            "merge",
            "begin",
            "gone over",
        ]
    ),
    st.integers(0, 5),
    st.one_of(st.just(99), st.just(99), st.integers(0, 7)),
)
STORIES = st.lists(st.one_of(WRITES, WORKS, WORKS), max_size=14)
Story = list[tuple[Any, ...]]
once = settings(max_examples=40, deadline=None, derandomize=True, database=None)


def play(kind: str, story: Story, then: Callable[[Checkpoints], None] = lambda _: None) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "state").mkdir()
        place = DiskPlace(name="web", uuid="1", run=folder, state=folder / "state", said=-1, lasting=False)
        model = Model(made(kind, folder, place), BASE)
        for what, *how in (*story, ("sweep", 0, 99), ("merge", 0, 99)):
            (model.do if len(how) == 2 else model.written)(what, *how)
            then(model.each)


@once
@given(st.sampled_from(KINDS), STORIES)
def test_what_is_read_never_changes(kind: str, story: Story) -> None:
    play(kind, story)


CHAIN: Story = [("checkpoint", 0, 99), ("checkpoint", 0, 99), ("checkpoint", 0, 99), ("forget", 0, 99)]


@settings(once, phases=(Phase.explicit, Phase.generate))
@given(st.sampled_from(KINDS), STORIES)
@example("raw", CHAIN)
def test_nor_is_it_ever_refused(kind: str, story: Story) -> None:
    play(kind, story, check_taken)
