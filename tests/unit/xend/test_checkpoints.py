"""Which checkpoints a domain has, and which of its disks' layers they need."""

import time
from pathlib import Path
from typing import Any, cast

import pytest

from xenion.api.errors import ApiError
from xenion.config.disk import Disk, Format
from xenion.xend import checkpoints
from xenion.xend.checkpoints import NAME_CHARACTERS, Checkpoint, Checkpoints
from xenion.xend.disks.layers import Layers, Note, layers_of


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """The folder of logs, which need not be there."""
    return tmp_path / "domains" / "web"


@pytest.fixture(autouse=True)
def ticking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has a later time than the one before."""
    now = iter(range(1, 1000))
    monkeypatch.setattr(time, "time", lambda: float(next(now)))


def add(state: Path, name: str, point: str = "") -> Checkpoint:
    """One of its own."""
    coming = Checkpoints(state).named(name)
    coming.path.write_bytes(b"memory")
    coming.add(point, 6)
    return Checkpoints(state).find(name)


def add_by(state: Path, path: Path, point: str = "") -> str:
    """Its name."""
    coming = Checkpoints(state).named_by(path)
    path.write_bytes(b"memory")
    coming.add(point, 6)
    return coming.name


def listed(state: Path) -> list[str]:
    return [one.name for one in Checkpoints(state).all()]


def keep(state: Path, tmp_path: Path, *points: str) -> Layers:
    """A disk that was fixed for these, and is written above them."""
    image = tmp_path / "image"
    image.touch()
    made = layers_of(Disk(target=str(image), vdev="xvda"), state)
    assert made is not None
    made.write(Note(made.base, Format.RAW, "xvda", points=dict.fromkeys(points, "")))
    return made


def points(made: Layers) -> list[str]:
    found = made.read()
    return sorted(found.points) if found else []


# --- what there is


def test_none(state: Path) -> None:
    assert listed(state) == []
    assert not state.exists()
    with pytest.raises(ApiError, match='web has no checkpoint "one"') as caught:
        Checkpoints(state).find("one")
    assert caught.value.code == "no-such-checkpoint"


def test_the_oldest_first(state: Path) -> None:
    for name in ("b", "a", "c"):
        add(state, name)
    assert listed(state) == ["b", "a", "c"]
    add_by(state, state / "b.x")
    assert listed(state) == ["b", "a", "c", "b.x"]


def test_as_it_is_told(state: Path) -> None:
    kept = Checkpoints(state)
    one = add(state, "one", "point")
    path = state / "checkpoints" / "one.saved"
    assert kept.shown(one) == {
        "name": "one",
        "path": str(path),
        "created_at": 1.0,
        "size": 6,
        "disks": True,
        "there": True,
    }
    path.unlink()
    assert kept.shown(one)["there"] is False
    assert kept.shown(add(state, "two"))["disks"] is False
    assert (state / "checkpoints").stat().st_mode & 0o077 == 0
    assert (state / "checkpoints" / "two.json").stat().st_mode & 0o077 == 0


def test_they_move_with_the_domain_s_folder(state: Path, tmp_path: Path) -> None:
    """As when it gets another name; a file of somebody else's stays where it is."""
    add(state, "one")
    add_by(state, tmp_path / "file")
    state = state.rename(state.with_name("other"))
    kept = Checkpoints(state)
    own, another = (kept.shown(one) for one in kept.all())
    assert (own["path"], own["there"]) == (str(state / "checkpoints" / "one.saved"), True)
    assert (another["path"], another["there"]) == (str(tmp_path / "file"), True)
    kept.forget(kept.find("one"))
    assert not (state / "checkpoints" / "one.saved").exists()


@pytest.mark.parametrize("text", ["", "x", "[]", "{}", "7", '{"name": 1}', "[" * 100_000])
def test_one_that_makes_no_sense(state: Path, text: str) -> None:
    add(state, "one")
    (state / "checkpoints" / "two.json").write_text(text)
    kept = Checkpoints(state)
    for work, of in (
        (kept.all, ()),
        (kept.find, ("one",)),
        (kept.named, ("three",)),
        (kept.named_by, (Path("/x"),)),
    ):
        with pytest.raises(ApiError, match=r"two\.json: it is damaged: move it away") as caught:
            cast("Any", work)(*of)
        assert caught.value.code == "failed"


def test_what_a_kill_kept_from_becoming_one(state: Path) -> None:
    add(state, "one")
    (state / "checkpoints" / ".two.json.new").write_text("{")
    (state / "checkpoints" / "three.saved").touch()
    assert listed(state) == ["one"]


# --- names


@pytest.mark.parametrize("name", ["a", "7", "A.b_c-d", "x.json", "x.saved", "n" * NAME_CHARACTERS])
def test_names(state: Path, name: str) -> None:
    add(state, name)
    assert listed(state) == [name]
    Checkpoints(state).forget(Checkpoints(state).find(name))
    assert list((state / "checkpoints").iterdir()) == []


@pytest.mark.parametrize(
    "name",
    [
        ".",
        "..",
        "../x",
        "a/b",
        "/x",
        ".x",
        "-x",
        "_x",
        "a b",
        "ü",
        "a\n",
        "\n",
        "a\0",
        " ",
        "n" * (NAME_CHARACTERS + 1),
    ],
)
def test_names_that_cannot_be(state: Path, name: str) -> None:
    with pytest.raises(ApiError) as caught:
        Checkpoints(state).named(name)
    assert caught.value.code == "bad-request"
    assert "\n" not in caught.value.message
    assert not state.exists()


def test_a_name_that_is_too_long_is_told_so(state: Path) -> None:
    with pytest.raises(ApiError) as caught:
        Checkpoints(state).named("n" * (NAME_CHARACTERS + 1))
    assert str(NAME_CHARACTERS) in caught.value.message


def test_a_name_that_is_taken(state: Path) -> None:
    add(state, "one")
    with pytest.raises(ApiError, match='web has a checkpoint "one": choose another name') as caught:
        Checkpoints(state).named("one")
    assert caught.value.code == "already-exists"


def test_the_moment_s_name(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "strftime", lambda form: f"now-{form.count('%')}")
    coming = Checkpoints(state).named("")
    assert (coming.name, coming.path) == ("now-6", state / "checkpoints" / "now-6.saved")
    assert listed(state) == []


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("web.saved", "web.saved"),
        ("a b/c d", "c-d"),
        (".hidden", "hidden"),
        ("-_.x", "x"),
        ("ü", "checkpoint"),
        ("...", "checkpoint"),
        ("a\nb", "a-b"),
        ("x" * 200, "x" * (NAME_CHARACTERS - 8)),
    ],
)
def test_names_of_files(state: Path, tmp_path: Path, file: str, name: str) -> None:
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    assert add_by(state, path) == name
    (one,) = Checkpoints(state).all()
    assert one.path == str(path)
    assert Checkpoints(state).named_by(path).name == name, "the same file again"


def test_files_of_one_name(state: Path, tmp_path: Path) -> None:
    found = []
    for folder in ("a", "b", "c"):
        (tmp_path / folder).mkdir()
        found.append(add_by(state, tmp_path / folder / "web"))
    assert found == ["web", "web-2", "web-3"]
    for folder, name in zip("abc", found, strict=True):
        assert Checkpoints(state).named_by(tmp_path / folder / "web").name == name
    long = "y" * 300
    for number in range(12):
        (tmp_path / str(number)).mkdir()
        assert len(add_by(state, tmp_path / str(number) / long[:250])) <= NAME_CHARACTERS
    assert len(set(listed(state))) == 15


# --- deleting


def test_deleted(state: Path, tmp_path: Path) -> None:
    """Its own file goes, another one stays."""
    made = keep(state, tmp_path, "p1", "p2", "p3")
    add(state, "one", "p1")
    name = add_by(state, tmp_path / "file", "p2")
    add(state, "three", "p3")
    for gone, left in (("one", ["p2", "p3"]), (name, ["p3"])):
        Checkpoints(state).forget(Checkpoints(state).find(gone))
        assert points(made) == left
    assert listed(state) == ["three"]
    assert sorted(path.name for path in (state / "checkpoints").iterdir()) == ["three.json", "three.saved"]
    assert (tmp_path / "file").exists()
    Checkpoints(state).forget(Checkpoints(state).find("three"))
    assert made.read() is None, "it says nothing any more"


def test_deleted_though_its_file_is_gone(state: Path) -> None:
    (state / "layers").mkdir(parents=True)
    one = add(state, "one", "point")
    (state / "checkpoints" / "one.saved").unlink()
    Checkpoints(state).forget(one)
    assert listed(state) == []
    Checkpoints(state).forget(one)


def test_one_without_disks_looks_at_none(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (state / "layers").mkdir(parents=True)
    (state / "layers" / "x.json").write_text("damaged")
    Checkpoints(state).forget(add(state, "one"))
    assert listed(state) == []


def test_what_cannot_be_deleted(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    one = add(state, "one")
    monkeypatch.setattr(checkpoints, "remove", fails)
    with pytest.raises(ApiError, match=r"one\.json: Permission denied") as caught:
        Checkpoints(state).forget(one)
    assert caught.value.code == "failed"
    assert (state / "checkpoints" / "one.saved").exists()


# --- what a killed xend has not written down


def test_what_nobody_knows_of_is_not_kept(state: Path, tmp_path: Path) -> None:
    made = keep(state, tmp_path, "p1", "p2", "p3")
    add(state, "one", "p1")
    add_by(state, tmp_path / "file", "p3")
    add(state, "without")
    Checkpoints(state).forget_unknown()
    assert points(made) == ["p1", "p3"]
    Checkpoints(state).forget_unknown()
    assert points(made) == ["p1", "p3"]


def test_where_nothing_is_known_nothing_is_kept(state: Path, tmp_path: Path) -> None:
    Checkpoints(state).forget_unknown()
    made = keep(state, tmp_path, "p1", "p2")
    Checkpoints(state).forget_unknown()
    assert made.read() is None


def test_what_makes_no_sense_may_be_one(state: Path, tmp_path: Path) -> None:
    """What it needs is kept."""
    made = keep(state, tmp_path, "p1")
    (state / "checkpoints").mkdir()
    (state / "checkpoints" / "one.json").write_text("x")
    with pytest.raises(ApiError, match="it is damaged"):
        Checkpoints(state).forget_unknown()
    assert points(made) == ["p1"]


# --- something else in the place of one


def test_a_file_that_something_else_has_replaced(state: Path, tmp_path: Path) -> None:
    made = keep(state, tmp_path, "p1", "p2")
    path = tmp_path / "file"
    add_by(state, path, "p1")
    add(state, "two", "p2")
    Checkpoints(state).replaced(tmp_path / "another")
    assert listed(state) == ["file", "two"]
    Checkpoints(state).replaced(path)
    assert (listed(state), points(made), path.exists()) == (["two"], ["p2"], True)


def test_a_file_of_its_own_that_something_else_has_replaced(state: Path, tmp_path: Path) -> None:
    """Whoever has written there wants it to stay."""
    made = keep(state, tmp_path, "p1")
    add(state, "one", "p1")
    path = state / "checkpoints" / "one.saved"
    Checkpoints(state).replaced(path)
    assert (listed(state), points(made), path.exists()) == ([], [], True)


# --- one in the place of another


def test_a_file_that_another_one_has_replaced(state: Path, tmp_path: Path) -> None:
    """What was kept for the one that it had is not needed any more."""
    made = keep(state, tmp_path, "p1", "p2", "p3")
    path = tmp_path / "file"
    assert [add_by(state, path, point) for point in ("p1", "p2", "p3")] == ["file"] * 3
    assert points(made) == ["p3"]
    (one,) = Checkpoints(state).all()
    assert (one.point, one.created_at) == ("p3", 3.0)


def test_whatever_name_it_had(state: Path, tmp_path: Path) -> None:
    made = keep(state, tmp_path, "p1", "p2")
    path = tmp_path / "file"
    Checkpoints(state).put("another", path, "p1", 6)
    add_by(state, path, "p2")
    assert (listed(state), points(made)) == (["file"], ["p2"])


def test_what_cannot_be_noted(state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = keep(state, tmp_path, "p1", "p2")
    path = tmp_path / "file"
    add_by(state, path, "p1")

    def fails(path: Path, *_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(checkpoints, "write_json", fails)
        with pytest.raises(ApiError, match=r"file\.json: No space left on device") as caught:
            Checkpoints(state).named_by(path).add("p2", 6)
    assert caught.value.code == "failed"
    assert [one.point for one in Checkpoints(state).all()] == ["p1"]
    assert points(made) == ["p1", "p2"], "whoever has made the point withdraws it"


def test_noted_or_refused(state: Path, tmp_path: Path) -> None:
    """A note that is damaged, of whatever disk, is in the way of forgetting what was there before."""
    keep(state, tmp_path, "p1")
    path = tmp_path / "file"
    add_by(state, path, "p1")
    (state / "layers" / "y.json").write_text("damaged")
    with pytest.raises(ApiError, match="damaged"):
        Checkpoints(state).named_by(path).add("p2", 6)
    assert [one.point for one in Checkpoints(state).all()] == ["p1"]


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "domains").touch()
    with pytest.raises(ApiError) as caught:
        Checkpoints(tmp_path / "domains" / "web").named("one")
    assert caught.value.code == "failed"
