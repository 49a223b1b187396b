"""qemu-img, and programs that are called so."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.xend.disks.kit import MIB, disk, qcow2, raw, refusal, run
from xenion.config.disk import Format
from xenion.xend.disks import chain, qemu_img
from xenion.xend.disks.chain import Image
from xenion.xend.disks.place import DiskPlace

DISK = disk("/image")
Program = Callable[[str], Path]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """A script instead of it."""

    def make(script: str) -> Path:
        made = tmp_path / "bin" / "qemu-img"
        made.parent.mkdir(exist_ok=True)
        made.write_text(f"#!/bin/sh\n{script}\n")
        made.chmod(0o700)
        monkeypatch.setenv("PATH", f"{made.parent}:{os.environ['PATH']}")
        return made

    return make


def image(path: Path, form: Format = Format.RAW, size: int = MIB) -> Image:
    return Image(path, form, device=False, size_bytes=size)


@pytest.mark.usefixtures("tools")
class TestMakeOver:
    @pytest.mark.parametrize("size", [0, 511, 512, 513, 3 * MIB, 1 << 40])
    def test_as_large_as_what_is_below(self, tmp_path: Path, place: DiskPlace, size: int) -> None:
        base, made = raw(tmp_path / "base", size), tmp_path / "made"
        run(qemu_img.make_over(DISK, made, image(base, size=size), str(base)))
        top, below = chain.find(DISK, made, Format.QCOW2, place)
        assert (top.format, top.size_bytes) == (Format.QCOW2, -(-size // 512) * 512)
        assert below == image(base, size=size)

    def test_what_is_below_is_called_as_is_said(self, tmp_path: Path, place: DiskPlace) -> None:
        """A name from where the new file is."""
        base = qcow2(tmp_path / "b,a s=e:1")
        (tmp_path / "folder").mkdir()
        made = tmp_path / "folder" / "m,a d=e:1"
        run(qemu_img.make_over(DISK, made, image(base, Format.QCOW2), f"../{base.name}"))
        _, below = chain.find(DISK, made, Format.QCOW2, place)
        assert below.format is Format.QCOW2
        assert below.path == tmp_path / "folder" / ".." / base.name

    def test_what_is_below_is_not_opened(self, tmp_path: Path) -> None:
        run(qemu_img.make_over(DISK, tmp_path / "made", image(tmp_path / "none"), str(tmp_path / "none")))
        assert (tmp_path / "made").exists()

    def test_it_cannot_be_made(self, tmp_path: Path) -> None:
        error = run(refusal(qemu_img.make_over(DISK, tmp_path / "no" / "made", image(tmp_path), "x")))
        assert error.code == "failed"
        assert error.message.startswith("disk xvda: ")
        assert "No such file or directory" in error.message


def test_it_refuses(program: Program) -> None:
    """Its last word is what is wrong."""
    program("echo much; echo notes >&2; echo 'no space' >&2; exit 1")
    error = run(refusal(qemu_img.run(DISK, "commit", "image")))
    assert (error.code, error.message) == ("failed", "disk xvda: no space")
    program("printf 'not \\377text' >&2; exit 1")
    assert run(refusal(qemu_img.run(DISK, "commit", "image"))).message == "disk xvda: not \ufffdtext"
    program("exit 3")
    assert "qemu-img ended with status 3" in run(refusal(qemu_img.run(DISK, "commit", "image"))).message
    program("kill -9 $$")
    assert "status -9" in run(refusal(qemu_img.run(DISK, "commit", "image"))).message


def test_what_it_says_along_the_way_is_nothing(program: Program) -> None:
    program("cat; yes | head -c 200000; yes | head -c 200000 >&2")
    run(qemu_img.run(DISK, "commit", "image"))


def test_it_gets_its_words_and_no_secrets(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XENION_TOKEN", "secret")
    program('echo "$#:$1:$2:$XENION_TOKEN" >&2; exit 1')
    assert run(refusal(qemu_img.run(DISK, "a b", "$c"))).message == "disk xvda: 2:a b:$c:"


def test_its_memory_is_limited(program: Program) -> None:
    program('while [ "$(ulimit -v)" = unlimited ]; do :; done; ulimit -v >&2; exit 1')
    message = run(refusal(qemu_img.run(DISK, "commit", "image"))).message
    assert message == f"disk xvda: {qemu_img.MAKING_BYTES >> 10}"


THREADS = """
import resource, threading
while resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY:
    pass
over = threading.Event()
threads = [threading.Thread(target=over.wait, daemon=True) for _ in range(80)]
for thread in threads:
    thread.start()
over.set()
"""


def test_it_has_room_for_its_threads(program: Program, tmp_path: Path) -> None:
    """A commit starts as many as it has requests in flight."""
    (tmp_path / "threads.py").write_text(THREADS)
    program(f"exec {sys.executable} {tmp_path / 'threads.py'}")
    run(qemu_img.run(DISK, "commit", "image", patient=True))


def test_it_is_not_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    error = run(refusal(qemu_img.run(DISK, "commit", "image")))
    assert (error.code, "apt-get install qemu-utils" in error.message) == ("failed", True)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator["asyncio.Queue[Process]"]:
    """Each process of it, when it runs."""
    really, found = asyncio.create_subprocess_exec, asyncio.Queue[Process]()

    async def start(*words: Any, **more: Any) -> Process:
        made = await really(*words, **more)
        found.put_nowait(made)
        return made

    monkeypatch.setattr(asyncio, "create_subprocess_exec", start)
    yield found
    assert found.empty()


def test_it_does_not_end(
    program: Program, started: "asyncio.Queue[Process]", monkeypatch: pytest.MonkeyPatch
) -> None:
    program("exec sleep 600")
    monkeypatch.setattr(qemu_img, "MAKING_S", 0.05)
    error = run(refusal(qemu_img.run(DISK, "create", "/the/image", "512")))
    assert error.code == "failed"
    assert "qemu-img does not end: is /the/image on a disk that answers?" in error.message
    assert started.get_nowait().returncode == -signal.SIGKILL


def test_one_that_is_patient(
    program: Program, started: "asyncio.Queue[Process]", monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no limit; cancelled, it has ended."""
    program("exec sleep 600")
    monkeypatch.setattr(qemu_img, "MAKING_S", 0.0)

    async def work() -> None:
        merging = asyncio.ensure_future(qemu_img.run(DISK, "commit", "image", patient=True))
        process = await started.get()
        assert process.returncode is None
        merging.cancel()
        with pytest.raises(asyncio.CancelledError):
            await merging
        assert process.returncode == -signal.SIGKILL

    run(work())
