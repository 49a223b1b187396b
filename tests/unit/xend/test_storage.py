"""Files are there whole or not at all."""

import errno
import os
from pathlib import Path

import pytest

from tests.unit.xend.kit import names
from xenion.xend.storage import folder_of_files, private_folder, read_json, remove, sound, write_json


@pytest.mark.parametrize("durable", [False, True])
def test_written_and_read(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "x.json"
    for value in ({"a": [1, None, "ü\ud800"]}, {}):
        write_json(path, value, durable=durable)
        assert read_json(path) == value
    assert path.stat().st_mode & 0o777 == 0o600
    assert names(tmp_path) == ["x.json"]
    remove(path)
    remove(path)
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff", b'{"b": 1}', b"[]", b"null", b'{"a": 1}', b"[" * 100_000]
)
def test_what_is_damaged(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(OSError, match="it is damaged: move it away") as caught, sound(path):
        read_json(path)["a"].items()
    assert (caught.value.errno, caught.value.filename) == (errno.EUCLEAN, str(path))


def test_what_is_not_there_is_not_damaged(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), sound(tmp_path / "x.json"):
        read_json(tmp_path / "x.json")


def test_a_disk_that_is_full_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.json"
    write_json(path, 1)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_json(path, 2, durable=True)
    assert read_json(path) == 1
    assert names(tmp_path) == ["x.json"]


def test_what_a_kill_left_is_gone(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    private_folder(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    (folder / ".x.json.new").touch()
    (folder / "y.json").touch()
    assert folder_of_files(folder) == folder
    assert names(folder) == ["y.json"]
