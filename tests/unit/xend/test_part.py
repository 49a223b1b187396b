"""The unfinished file beside what it is to become; the rest of it is in handlers/test_dump.py."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from tests.descriptors import descriptors
from xenion.api.errors import ApiError
from xenion.xend.live import Live
from xenion.xend.part import Part, file_path


class Written:
    """A domain whose record can be written, or cannot."""

    def __init__(self) -> None:
        self.record = SimpleNamespace(parts=[])
        self.saved: list[list[str]] = []
        """The parts, each time that they were written down."""
        self.full = False

    def save(self) -> None:
        if self.full:
            raise ApiError("failed", "there is no room")
        self.saved.append(list(self.record.parts))

    def part(self, path: Path) -> Part:
        return Part(cast("Live", self), path)


@pytest.fixture
def live() -> Written:
    return Written()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("given", ["/a/file", "/file", "/a b/ü"])
def test_paths_of_files(given: str) -> None:
    assert file_path(given) == Path(given)


@pytest.mark.parametrize("given", ["", "file", "./file", "/", "/..", "/a/..", "/a\0b"])
def test_paths_of_none(given: str) -> None:
    with pytest.raises(ApiError, match="absolute") as caught:
        file_path(given)
    assert caught.value.code == "bad-request"


def test_it_is_written_down_before_it_is_there(
    live: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []
    monkeypatch.setattr(live, "save", lambda: seen.append(names(tmp_path)))
    part = live.part(tmp_path / "x")
    assert seen == [[]]
    assert names(tmp_path) == [Path(path).name for path in live.record.parts]
    part.close()


def test_finished(live: Written, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"what was there before")
    part = live.part(tmp_path / "x")
    os.write(part.fd, b"new")
    assert (tmp_path / "x").read_bytes() == b"what was there before"
    assert part.finish() == 3
    assert (tmp_path / "x").read_bytes() == b"new"
    part.close()
    assert (names(tmp_path), live.record.parts, live.saved[-1]) == (["x"], [], [])


def test_unfinished_it_is_gone(live: Written, tmp_path: Path) -> None:
    before = descriptors()
    live.part(tmp_path / "x").close()
    assert (names(tmp_path), live.saved[-1]) == ([], [])
    assert descriptors() == before


def test_two_of_one_file(live: Written, tmp_path: Path) -> None:
    first, second = live.part(tmp_path / "x"), live.part(tmp_path / "x")
    assert len(set(live.record.parts)) == 2
    os.write(first.fd, b"first")
    os.write(second.fd, b"second")
    second.finish()
    first.close()
    second.close()
    assert ((tmp_path / "x").read_bytes(), names(tmp_path), live.record.parts) == (b"second", ["x"], [])


@pytest.mark.parametrize(
    "kind",
    [
        "folder",
        "pipe",
    ],
)
def test_what_has_come_to_be_no_file_stays(live: Written, tmp_path: Path, kind: str) -> None:
    part = live.part(tmp_path / "x")
    path = tmp_path / "x"
    if kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    with pytest.raises(ApiError) as caught:
        part.finish()
    assert caught.value.code == "refused"
    part.close()
    assert names(tmp_path) == ["x"]
    assert not path.is_file()


def test_a_folder_that_has_gone(live: Written, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    part = live.part(folder / "x")
    next(folder.iterdir()).unlink()
    folder.rmdir()
    with pytest.raises(ApiError, match="No such file"):
        part.finish()
    part.close()
    assert live.record.parts == []


def test_a_record_that_cannot_be_written(live: Written, tmp_path: Path) -> None:
    before = descriptors()
    live.full = True
    with pytest.raises(ApiError, match="no room"):
        live.part(tmp_path / "x")
    assert names(tmp_path) == []
    assert descriptors() == before
    live.full = False
    part = live.part(tmp_path / "x")
    live.full = True
    part.close()
    assert names(tmp_path) == []


def test_what_could_not_be_written_down_is_forgotten(live: Written, tmp_path: Path) -> None:
    live.full = True
    with pytest.raises(ApiError):
        live.part(tmp_path / "x")
    assert live.record.parts == []
