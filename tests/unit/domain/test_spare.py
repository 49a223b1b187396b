"""A spare file is used once, and by one only."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.descriptors import descriptors
from xenion.domain.spare import Spare, SpareInUseError


class Files:
    def __init__(self, path: Path) -> None:
        self.path = path

    def open(self, name: str) -> int:
        return os.open(self.path / name, os.O_WRONLY | os.O_CREAT, 0o600)

    def read(self, name: str) -> bytes:
        return (self.path / name).read_bytes()


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Files]:
    before = descriptors()
    yield Files(tmp_path)
    assert set(descriptors()) <= set(before), "a descriptor was left open"


def write(spare: Spare, data: bytes) -> None:
    with spare.use() as fd:
        os.write(fd, data)


def write_and_fail(spare: Spare, meanwhile: Callable[[], None] = lambda: None) -> None:
    with spare.use() as fd:
        os.write(fd, b"half of it")
        meanwhile()
        raise KeyError


def test_used_once(files: Files) -> None:
    spare = Spare(files.open("first"))
    write(spare, b"one")
    with pytest.raises(SpareInUseError):
        write(spare, b"two")
    assert files.read("first") == b"one"


def test_another_takes_its_place(files: Files) -> None:
    spare = Spare(files.open("first"))
    spare.replace(files.open("second"))
    write(spare, b"two")
    spare.replace(files.open("third"))
    write(spare, b"three")
    assert [files.read(name) for name in ("first", "second", "third")] == [b"", b"two", b"three"]


def test_what_failed_leaves_it_empty_for_the_next_time(files: Files) -> None:
    spare = Spare(files.open("first"))
    with pytest.raises(KeyError):
        write_and_fail(spare)
    assert files.read("first") == b""
    with spare.use() as fd:
        os.pwrite(fd, b"whole", 0)
    assert files.read("first") == b"whole"


def test_one_that_came_meanwhile_wins(files: Files) -> None:
    spare = Spare(files.open("first"))
    with pytest.raises(KeyError):
        write_and_fail(spare, lambda: spare.replace(files.open("second")))
    write(spare, b"two")
    assert (files.read("first"), files.read("second")) == (b"", b"two")
