"""Locks that keep QEMU, other domains and us out of each other's way."""

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from xenion.dom0.block import locks
from xenion.dom0.block.locks import InUseError, NoLocksError

BYTES = [base + bit for base in (locks.USED_BASE, locks.DENIED_BASE) for bit in range(4)]


@pytest.fixture
def tools() -> None:
    if shutil.which("qemu-io") is None:
        pytest.skip("qemu-io is not here: install qemu-utils")


def raw(path: Path) -> Path:
    with path.open("wb") as file:
        file.truncate(1 << 20)
    return path


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[list[int]]:
    """Four descriptors of one file, each of its own opening."""
    path = raw(tmp_path / "image")
    fds = [os.open(path, os.O_RDWR) for _ in range(4)]
    yield fds
    for fd in fds:
        os.close(fd)


def test_readers_share_and_a_writer_does_not(opened: list[int]) -> None:
    one, two, three, four = opened
    locks.take(one, writable=False)
    locks.take(two, writable=False)
    assert not locks.is_written(four)
    with pytest.raises(InUseError):
        locks.take(three, writable=True)
    locks.take(four, writable=False)  # a refused writer has left no lock behind


@pytest.mark.parametrize("writable", [True, False])
def test_nobody_beside_a_writer(opened: list[int], writable: bool) -> None:
    one, two, *_ = opened
    locks.take(one, writable=True)
    assert locks.is_written(two)
    assert not locks.is_written(one), "its own lock is not another's"
    with pytest.raises(InUseError):
        locks.take(two, writable=writable)


def test_the_lock_is_the_opening_s(tmp_path: Path) -> None:
    path = raw(tmp_path / "image")
    one, two = os.open(path, os.O_RDWR), os.open(path, os.O_RDWR)
    locks.take(one, writable=True)
    kept = os.dup(one)
    os.close(one)
    with pytest.raises(InUseError):
        locks.take(two, writable=True)
    os.close(kept)
    locks.take(two, writable=True)
    os.close(two)


# --- given back


@pytest.mark.parametrize("writable", [True, False])
def test_what_is_given_back_is_others(opened: list[int], writable: bool) -> None:
    one, two, three, _ = opened
    locks.take(one, writable=writable)
    locks.give_back(one)
    assert not [at for at in BYTES if locks.is_held(three, at)]
    locks.take(two, writable=True)
    with pytest.raises(InUseError):
        locks.take(one, writable=writable)
    locks.give_back(two)
    locks.take(one, writable=True)


def test_nothing_to_give_back(opened: list[int]) -> None:
    one, two, *_ = opened
    locks.take(two, writable=True)
    locks.give_back(one)
    assert locks.is_written(one), "another's locks are not ours to give back"


def test_again_and_again(opened: list[int]) -> None:
    one, two, *_ = opened
    for _ in range(3):
        for _ in range(2):
            locks.take(one, writable=True)
        for _ in range(2):
            locks.give_back(one)
        assert not locks.is_written(two)


def test_what_is_given_back_through_another_descriptor(opened: list[int]) -> None:
    """The opening has them, not the number."""
    one, two, *_ = opened
    locks.take(one, writable=True)
    copy = os.dup(one)
    locks.give_back(copy)
    os.close(copy)
    locks.take(two, writable=True)


@pytest.mark.parametrize(("number", "error"), [(errno.ENOLCK, NoLocksError), (errno.EIO, OSError)])
def test_a_file_system_without_locks(
    opened: list[int], monkeypatch: pytest.MonkeyPatch, number: int, error: type[Exception]
) -> None:
    def fails(fd: int, command: int, argument: bytes) -> bytes:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("xenion.dom0.block.locks.fcntl.fcntl", fails)
    with pytest.raises(error):
        locks.take(opened[0], writable=True)
    locks.give_back(opened[0])


# --- QEMU's


def qemu(path: Path, what: str, *options: str) -> "subprocess.CompletedProcess[str]":
    words = ["qemu-io", *options, "-f", "raw", "-c", what, str(path)]
    return subprocess.run(words, capture_output=True, text=True, check=False)


@pytest.mark.usefixtures("tools")
def test_qemu_keeps_away(tmp_path: Path) -> None:
    path = raw(tmp_path / "image")
    fd = os.open(path, os.O_RDWR)
    for writable in (True, False):
        assert qemu(path, "write 0 512").returncode == 0
        locks.take(fd, writable=writable)
        refused = qemu(path, "write 0 512")
        assert 'Failed to get "write" lock' in refused.stderr
        os.close(fd)
        fd = os.open(path, os.O_RDWR)
    locks.take(fd, writable=False)
    assert qemu(path, "read 0 512", "-r").returncode == 0
    os.close(fd)


@pytest.mark.usefixtures("tools")
def test_we_keep_away_from_qemu(tmp_path: Path) -> None:
    path = raw(tmp_path / "image")
    words = ["qemu-io", "-f", "raw", str(path)]
    fd = os.open(path, os.O_RDWR)
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as user:
        assert user.stdin is not None
        assert user.stdout is not None
        user.stdin.write(b"write 0 512\n")
        user.stdin.flush()
        while b"wrote" not in user.stdout.readline():
            pass
        for writable in (True, False):
            with pytest.raises(InUseError):
                locks.take(fd, writable=writable)
        user.stdin.close()
    locks.take(fd, writable=True)
    os.close(fd)
