"""The file that takes a dump, and those that do not."""

import errno
import os
from pathlib import Path

import pytest

from tests.unit.domain.dump.guest import new_file
from xenion.domain.dump.output import DumpError, Output


def test_what_is_written_is_there(tmp_path: Path) -> None:
    with new_file(tmp_path / "core") as fd:
        output = Output(fd)
        output.write(3, memoryview(b"words"))
        output.finish()
    assert (tmp_path / "core").read_bytes() == b"\0\0\0words"


def test_pieces_are_put_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: whole(fd, data[:2], at))
    with new_file(tmp_path / "core") as fd:
        Output(fd).write(1, b"words")
    assert (tmp_path / "core").read_bytes() == b"\0words"


def test_a_file_with_something_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "core").write_bytes(b"four")
    with (tmp_path / "core").open("r+b") as file, pytest.raises(DumpError, match="holds 4 bytes already"):
        Output(file.fileno())
    assert (tmp_path / "core").read_bytes() == b"four"


def test_a_pipe_is_refused() -> None:
    reader, writer = os.pipe()
    with pytest.raises(DumpError, match="Illegal seek"):
        Output(writer)
    os.close(reader)
    os.close(writer)


def test_a_full_disk_is_said_with_the_place() -> None:
    fd = os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(DumpError) as caught:
        Output(fd).write(5 << 20, b"x")
    os.close(fd)
    assert str(caught.value) == (
        "the core dump cannot be written (No space left on device, 5 MiB into the file): "
        "make room there or name a file elsewhere"
    )


def test_a_disk_that_finds_itself_full_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(fd: int) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(os, "fsync", no_room)
    with new_file(tmp_path / "core") as fd, pytest.raises(DumpError, match="quota"):
        Output(fd).finish()
