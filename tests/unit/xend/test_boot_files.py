"""Kernel and ramdisk are opened once, are files, and are closed whoever gives up."""

import asyncio
import os
import threading
from pathlib import Path

import pytest

from tests.descriptors import descriptors
from tests.unit.xend.kit import config, run
from xenion.api.errors import ApiError
from xenion.xend import boot_files as module
from xenion.xend.boot_files import BootFiles, boot_files


def test_opened_and_closed(tmp_path: Path) -> None:
    ramdisk = tmp_path / "ramdisk"
    ramdisk.touch()

    async def work() -> None:
        for made, paths in (
            (config(tmp_path), [config(tmp_path).kernel]),
            (config(tmp_path, ramdisk=ramdisk), [config(tmp_path).kernel, ramdisk]),
        ):
            async with boot_files(made) as opened:
                fds = list(opened.fds)
                assert [Path(f"/proc/self/fd/{fd}").readlink() for fd in fds] == paths
            for fd in fds:
                with pytest.raises(OSError, match="Bad file"):
                    os.fstat(fd)

    run(work)


def test_refused(tmp_path: Path) -> None:
    made = config(tmp_path)
    before = descriptors()
    with pytest.raises(ApiError, match=r"ramdisk .* does not exist: correct the path"):
        BootFiles(config(tmp_path, ramdisk=tmp_path / "missing"))
    made.kernel.unlink()
    os.mkfifo(made.kernel)
    with pytest.raises(ApiError, match="is not a file: correct the path"):
        BootFiles(made)
    made.kernel.unlink()
    made.kernel.symlink_to(made.kernel)
    with pytest.raises(ApiError, match="Too many levels"):
        BootFiles(made)
    assert descriptors() == before


def test_who_gives_up_waits_for_no_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, hangs, closed = threading.Event(), threading.Event(), threading.Event()
    really, close = module._open, BootFiles.close

    def slow(key: str, path: Path) -> int:
        begun.set()
        hangs.wait()
        return really(key, path)

    def tell(self: BootFiles) -> None:
        close(self)
        closed.set()

    monkeypatch.setattr(module, "_open", slow)
    monkeypatch.setattr(BootFiles, "close", tell)

    async def enter() -> None:
        async with boot_files(config(tmp_path)):
            raise AssertionError

    async def work() -> None:
        task = asyncio.ensure_future(enter())
        await asyncio.to_thread(begun.wait)
        before = descriptors()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        hangs.set()
        assert await asyncio.to_thread(closed.wait, 30)
        assert descriptors() == before

    run(work)
