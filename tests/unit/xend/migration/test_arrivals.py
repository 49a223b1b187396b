"""What has come to this host is known for good, or was never said to have come."""

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.unit.xend.disk import disk_ends_at
from xenion.xend import storage
from xenion.xend.migration import arrivals
from xenion.xend.migration.arrivals import Arrivals

FILE = "arrivals.json"


def test_none_at_first(tmp_path: Path) -> None:
    assert "a" not in Arrivals(tmp_path)
    assert not (tmp_path / FILE).exists()


def test_known_ever_after(tmp_path: Path) -> None:
    known = Arrivals(tmp_path)
    known.add("a", "uuid-a")
    known.add("b", "uuid-b")
    for found in (known, Arrivals(tmp_path)):
        assert ("a" in found, "b" in found, "c" in found) == (True, True, False)
        assert (found.uuid("a"), found.uuid("b")) == ("uuid-a", "uuid-b")
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600


def test_on_the_disk_when_it_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    fsync = os.fsync

    def noted(fd: int) -> None:
        synced.append(Path(f"/proc/self/fd/{fd}").readlink().name)
        fsync(fd)

    monkeypatch.setattr(os, "fsync", noted)
    known = Arrivals(tmp_path)
    known.add("a", "u")
    assert synced == [f".{FILE}.new", tmp_path.name]
    synced.clear()
    known.remove("a")
    assert synced == [f".{FILE}.new", tmp_path.name]


def test_the_newest_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "KEPT", 3)
    known = Arrivals(tmp_path)
    for number in range(9):
        known.add(f"a{number}", "u")
    assert list(json.loads((tmp_path / FILE).read_text())["known"]) == ["a6", "a7", "a8"]
    known = Arrivals(tmp_path)
    known.add("b", "u")
    assert list(json.loads((tmp_path / FILE).read_text())["known"]) == ["a7", "a8", "b"]


def test_its_name_stays(tmp_path: Path) -> None:
    """It is on the disk before anybody hears of it."""
    name = Arrivals(tmp_path).ledger
    assert len(name) == 32
    known = Arrivals(tmp_path)
    known.add("a", "u")
    assert (known.ledger, Arrivals(tmp_path).ledger) == (name, name)
    (tmp_path / FILE).unlink()
    assert Arrivals(tmp_path).ledger != name


def test_removed(tmp_path: Path) -> None:
    known = Arrivals(tmp_path)
    known.add("a", "u")
    known.add("b", "u")
    known.remove("a")
    for found in (known, Arrivals(tmp_path)):
        assert ("a" in found, "b" in found) == (False, True)


@pytest.mark.parametrize(
    "content",
    [b"", b"x", b'{"a": "u"', b'{"a": "u"}', b"[]", b"7", b"null", b'"a"', b"\xff\xfe", b"\0" * 100],
)
def test_a_damaged_file(tmp_path: Path, content: bytes) -> None:
    """Nobody guesses: what was in it runs here, and perhaps nowhere else."""
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(OSError, match="it is damaged: move it away") as caught:
        Arrivals(tmp_path)
    assert (caught.value.errno, caught.value.filename) == (errno.EUCLEAN, str(tmp_path / FILE))
    assert (tmp_path / FILE).read_bytes() == content


def test_one_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    with pytest.raises(IsADirectoryError):
        Arrivals(tmp_path)


def test_a_full_disk(tmp_path: Path) -> None:
    known = Arrivals(tmp_path)
    known.add("a", "u")
    with disk_ends_at(10), pytest.raises(OSError, match="File too large"):
        known.add("b", "u")
    for found in (known, Arrivals(tmp_path)):
        assert ("a" in found, "b" in found) == (True, False)
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    known.add("b", "u")
    assert "b" in Arrivals(tmp_path)


@pytest.mark.parametrize("fails", ["fsync of the file", "rename", "fsync of the folder"])
def test_what_was_not_written_is_not_known_to_the_next_one_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    """Its source was told that it has not come."""
    known = Arrivals(tmp_path)
    known.add("a", "u")
    calls: list[int] = []

    def once(real: Any) -> Any:
        def call(*of: Any) -> Any:
            calls.append(1)
            if len(calls) == 1:
                raise OSError(errno.EIO, "Input/output error")
            return real(*of)

        return call

    if fails == "rename":
        monkeypatch.setattr(Path, "replace", once(Path.replace))
    elif fails == "fsync of the file":
        monkeypatch.setattr(os, "fsync", once(os.fsync))
    else:
        monkeypatch.setattr(storage, "sync_folder", once(storage.sync_folder))
    with pytest.raises(OSError, match="Input/output"):
        known.add("b", "u")
    assert "b" not in known
    assert "b" not in Arrivals(tmp_path)
    assert "a" in Arrivals(tmp_path)


def test_removed_though_it_cannot_be_written_down(tmp_path: Path) -> None:
    known = Arrivals(tmp_path)
    known.add("a", "u")
    known.add("b", "u")
    with disk_ends_at(1), pytest.raises(OSError, match="File too large"):
        known.remove("a")
    assert "a" not in known
    known.add("c", "u")
    assert "a" not in Arrivals(tmp_path)
