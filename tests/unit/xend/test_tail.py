"""What is written from some moment on."""

import os
from pathlib import Path

from xenion.xend.tail import MOST_BYTES, Tail


def test_only_what_is_new(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(fd, b"old\n")
    tail = Tail(fd)
    assert tail.read() == ""
    os.write(fd, b"new\xff\n")
    (tmp_path / "log").rename(tmp_path / "moved")
    assert tail.read() == "new\ufffd\n"
    os.write(fd, bytes(2 * MOST_BYTES))
    assert len(tail.read()) == MOST_BYTES
    os.close(fd)


def test_of_what_is_no_file() -> None:
    fd = os.open("/dev/null", os.O_WRONLY)
    assert Tail(fd).read() == ""
    os.close(fd)
    read, write = os.pipe()
    assert Tail(write).read() == ""
    os.close(read)
    os.close(write)
