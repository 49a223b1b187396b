"""The console's log in a file, and in another one when it is full."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from xenion.domain import console_log
from xenion.domain.console_log import FULL, ConsoleLog


class Log:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.full: list[str] = []
        self.failed: list[str] = []
        self.log = ConsoleLog(self.file("log"), lambda: self.full.append("full"), self.failed.append)

    def file(self, name: str) -> int:
        return os.open(self.path / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def read(self, name: str = "log") -> bytes:
        return (self.path / name).read_bytes()


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    monkeypatch.setattr(console_log, "LIMIT", 100)
    made = Log(tmp_path)
    yield made
    made.log.replace(os.open("/dev/null", os.O_WRONLY))
    os.close(made.log._fd)


def test_full_is_told_once_and_nothing_is_lost(log: Log) -> None:
    log.log.write(b"x" * 100)
    assert log.full == []
    log.log.write(b"y" * 50)
    log.log.write(b"z" * 50)
    assert log.full == ["full"]
    assert log.read() == b"x" * 100 + b"y" * 50 + b"z" * 50


def test_the_new_file_takes_what_comes_then(log: Log) -> None:
    log.log.write(b"x" * 101)
    log.log.replace(log.file("new"))
    log.log.write(b"y" * 101)
    assert (log.read(), log.read("new")) == (b"x" * 101, b"y" * 101)
    assert log.full == ["full", "full"]


def test_without_a_new_file_it_ends_and_says_so(log: Log) -> None:
    for _ in range(5):
        log.log.write(b"x" * 90)
    assert log.read() == b"x" * 270 + FULL


def test_a_full_disk_is_told_of_once(log: Log) -> None:
    log.log.replace(os.open("/dev/full", os.O_WRONLY))
    log.log.write(b"lost")
    log.log.write(b"lost")
    assert log.failed == ["the console's log misses some of the output: No space left on device"]
    log.log.replace(log.file("new"))
    log.log.write(b"kept")
    assert log.read("new") == b"kept"
