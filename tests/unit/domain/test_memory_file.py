"""The parts of a memory file that the host has memory for."""

import os
from collections.abc import Iterator

import pytest

from xenion.domain.memory_file import touched

PAGE = 4096


@pytest.fixture
def memory() -> Iterator[int]:
    """Sixteen pages, of which 2, 3 and 9 were written."""
    fd = os.memfd_create("memory")
    os.ftruncate(fd, 16 * PAGE)
    for page in (2, 3, 9):
        os.pwrite(fd, b"x", page * PAGE)
    yield fd
    os.close(fd)


@pytest.mark.parametrize(
    ("start", "stop", "parts"),
    [
        (0, 16, [(2, 4), (9, 10)]),
        (3, 9, [(3, 4)]),
        (4, 9, []),
        (10, 16, []),
        (9, 100, [(9, 10)]),
        (16, 20, []),
        (5, 5, []),
    ],
)
def test_parts(memory: int, start: int, stop: int, parts: list[tuple[int, int]]) -> None:
    found = list(touched(memory, start * PAGE, stop * PAGE))
    assert found == [(first * PAGE, last * PAGE) for first, last in parts]


def test_what_is_no_file() -> None:
    reader, writer = os.pipe()
    with pytest.raises(OSError, match="Illegal seek"):
        list(touched(reader, 0, PAGE))
    os.close(reader)
    os.close(writer)
