"""The rotated files: whole lines, whatever happens to the process or the disk."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.unit.xend.disk import disk_ends_at
from xenion.xend.logfiles import BLOCK, LogFiles, newest_first


@contextmanager
def log(folder: Path, limit: int = 30, count: int = 3) -> Iterator[LogFiles]:
    files = LogFiles(folder / "log", limit, count)
    try:
        yield files
    finally:
        files.close()


def fill(files: LogFiles, *lines: bytes) -> None:
    for line in lines:
        if files.full(len(line) + 1):
            files.rotate(b"head\n")
        files.append(line + b"\n")


def test_lines_come_back_newest_first_and_only_the_owner_may_read(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        with log(tmp_path) as files:
            fill(files, b"one", b"two")
            assert list(files.newest_first()) == [b"two", b"one"]
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "log").stat().st_mode) == 0o600


@pytest.mark.parametrize("content", [b"", b"\n", b"a\n", b"a\nb", b"torn", b"\n\na\n"])
def test_a_file_is_read_backwards(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "log"
    path.write_bytes(content)
    assert list(newest_first(path)) == content.split(b"\n")[:-1][::-1]
    path.write_bytes(b"x" * (BLOCK + 1) + b"\n" + content + b"y" * (2 * BLOCK) + b"\n" + b"z" * BLOCK)
    assert list(newest_first(path)) == path.read_bytes().split(b"\n")[:-1][::-1]
    assert list(newest_first(tmp_path / "missing")) == []


@pytest.mark.parametrize("torn", [b"to", b"t" * (2 * BLOCK + 1), b"\0" * 4096])
def test_a_torn_line_is_cut_off(tmp_path: Path, torn: bytes) -> None:
    (tmp_path / "log").write_bytes(b"whole\n" + torn)
    with log(tmp_path) as files:
        assert files.cut == len(torn)
        fill(files, b"next")
        assert list(files.newest_first()) == [b"next", b"whole"]
    with log(tmp_path) as files:
        assert files.cut == 0


def test_a_full_file_is_rotated_and_the_oldest_goes(tmp_path: Path) -> None:
    with log(tmp_path) as files:
        fill(files, *(b"line %04d" % i for i in range(20)))
        found = [line for line in files.newest_first() if line != b"head"]
        assert found == [b"line %04d" % i for i in range(19, 19 - len(found), -1)]
        assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "log.1", "log.2"]
        assert all(path.stat().st_size <= 30 for path in files.paths())


def test_a_line_longer_than_a_file_gets_a_file(tmp_path: Path) -> None:
    with log(tmp_path) as files:
        fill(files, b"a" * 50, b"b" * 50)
        assert list(files.newest_first()) == [b"b" * 50, b"head", b"a" * 50]


@pytest.mark.parametrize("renames", range(4))
def test_a_rotation_cut_short_loses_nothing_then_or_later(tmp_path: Path, renames: int) -> None:
    """The oldest of the four files goes anyway; the others stay, also when the rotation is repeated."""
    with log(tmp_path, count=4) as files:
        fill(files, *(b"line %d" % i * 4 for i in range(4)))
        paths = files.paths()
        assert all(path.exists() for path in paths)
    kept = [line for path in paths[:3] for line in newest_first(path)]
    for i in range(3, 3 - renames, -1):
        paths[i - 1].replace(paths[i])
    with log(tmp_path, count=4) as files:
        assert list(files.newest_first())[: len(kept)] == kept
        if renames < 3:
            files.rotate(b"new head\n")
            assert list(files.newest_first())[1 : len(kept) + 1] == kept


def test_a_line_the_disk_has_no_room_for_leaves_no_part(tmp_path: Path) -> None:
    with log(tmp_path, limit=1000) as files:
        fill(files, b"first")
        with disk_ends_at(files.size + 3):
            for _ in range(2):
                with pytest.raises(OSError, match=r"space|large"):
                    files.append(b"second\n")
        assert (tmp_path / "log").read_bytes() == b"first\n"
        fill(files, b"third")
        assert list(files.newest_first()) == [b"third", b"first"]


def test_a_part_that_cannot_be_removed_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(fd: int, size: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with log(tmp_path, limit=1000) as files:
        fill(files, b"first")
        with monkeypatch.context() as patch, disk_ends_at(files.size + 3):
            patch.setattr(os, "ftruncate", refuse)
            with pytest.raises(OSError, match="space"):
                files.append(b"second\n")
        fill(files, b"third", b"fourth")
        assert (tmp_path / "log").read_bytes() == b"first\nsec\nthird\nfourth\n"
        assert files.size == (tmp_path / "log").stat().st_size


def test_what_a_failed_sync_left_uncertain_is_taken_back(tmp_path: Path) -> None:
    with log(tmp_path, limit=1000) as files:
        assert files.dirty
        fill(files, b"one")
        mark = files.mark()
        fill(files, b"two")
        files.synced(mark)
        assert files.dirty
        fill(files, b"three")
        assert files.take_back() == [b"two\n", b"three\n"]
        assert list(files.newest_first()) == [b"one"]
        files.synced(files.mark())
        assert not files.dirty


def test_a_rotation_that_fails_is_not_tried_for_each_line(tmp_path: Path) -> None:
    with log(tmp_path) as files:
        (tmp_path / "log.1").mkdir()
        (tmp_path / "log.2").mkdir()
        (tmp_path / "log.2" / "full").touch()
        fill(files, b"a" * 30)
        with pytest.raises(OSError, match="not empty"):
            files.rotate(b"head\n")
        assert not files.full(10)
        fill(files, b"goes on")
        assert files.full(30)
        assert (tmp_path / "log").read_bytes() == b"a" * 30 + b"\ngoes on\n"


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_only_a_plain_file_is_opened(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "log"
    if kind == "link":
        path.symlink_to(tmp_path / "elsewhere")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises(OSError, match=r"symbolic|regular|directory"):
        LogFiles(path, 30, 3)
    assert not (tmp_path / "elsewhere").exists()
