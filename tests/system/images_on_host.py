"""Images for guests' disks on the host: made, served, and read independently of Xenion."""

import hashlib
import itertools
import json
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.system.disk_guest import free_port
from tests.system.xm import DomainProcess

MIB = 1 << 20
KINDS = ("raw", "sectors", "persistent", "qcow2", "backed", "nbd")
RAW_WORDS = {"sectors": ("sector=4096",), "persistent": ("persistent-grants",)}
"""`sectors`: a raw file with sectors of 4096 bytes; `backed`: qcow2 over a raw file of `PATTERN`."""
PATTERN = bytes(range(256)) * 16
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Made:
    """`words` go with the target; `content` gives a raw file with all that is in it, once no guest has it."""

    target: str | Path
    words: tuple[str, ...]
    content: Callable[[], Path]


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stamp(path: Path) -> tuple[int, int, int]:
    """Another one after each write."""
    status = path.stat()
    return status.st_size, status.st_blocks, status.st_mtime_ns


def raw(path: Path, size: int) -> Path:
    """A file without a byte on the disk."""
    with path.open("wb") as file:
        file.truncate(size)
    return path


def patterned(path: Path, size: int) -> Path:
    with path.open("wb") as file:
        for _ in range(size // len(PATTERN)):
            file.write(PATTERN)
    return path


def tool(name: str, package: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"there is no {name}: apt-get install {package}")
    return found


def qemu_img(*words: str | Path) -> str:
    program = tool("qemu-img", "qemu-utils")
    return subprocess.run([program, *map(str, words)], check=True, capture_output=True, text=True).stdout


def qcow2(path: Path, size: int, base: Path | None = None) -> Path:
    backing: list[str | Path] = [] if base is None else ["-b", base, "-F", "raw"]
    qemu_img("create", "-q", "-f", "qcow2", *backing, path, str(size))
    return path


def content(path: Path) -> Path:
    """A raw file with what is in a qcow2 image, which must be sound."""
    told = json.loads(qemu_img("check", "--output=json", path))
    assert told.get("corruptions", 0) == told.get("check-errors", 0) == 0, told
    out = path.with_suffix(".content")
    qemu_img("convert", "-f", "qcow2", "-O", "raw", path, out)
    return out


@contextmanager
def served(folder: Path, *words: str | Path) -> Iterator[str]:
    """An NBD server for what qemu-nbd's `words` name; its URL."""
    port, pid_file = free_port(), folder / f"nbd{next(_numbers)}.pid"
    where = ("--bind=127.0.0.1", f"--port={port}", "--shared=4", "--persistent", "--discard=unmap")
    program = tool("qemu-nbd", "qemu-utils")
    subprocess.run([program, "--fork", f"--pid-file={pid_file}", *where, *map(str, words)], check=True)
    server = DomainProcess(int(pid_file.read_text()))
    try:
        yield f"nbd://127.0.0.1:{port}/"
    finally:
        server.signal(signal.SIGTERM)
        assert server.wait()


@contextmanager
def image_of(kind: str, folder: Path, size: int) -> Iterator["Made"]:
    """An image of one of KINDS."""
    path = folder / f"{kind}.img"
    if kind == "qcow2":
        yield Made(qcow2(path, size), ("format=qcow2",), lambda: content(path))
    elif kind == "backed":
        base = patterned(folder / "base.img", size)
        yield Made(qcow2(path, size, base), ("format=qcow2",), lambda: content(path))
    elif kind == "nbd":
        with served(folder, "--format=raw", raw(path, size)) as url:
            yield Made(url, ("format=nbd",), lambda: path)
    else:
        yield Made(raw(path, size), RAW_WORDS.get(kind, ()), lambda: path)
