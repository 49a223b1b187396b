"""A domain's kernel and ramdisk, opened for its process."""

import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from xenion.api.errors import ApiError
from xenion.config.domain import DomainConfig
from xenion.xend.threads import in_thread


class BootFiles:
    """`fds`: the kernel's, and the ramdisk's if there is one. ApiError (refused)."""

    def __init__(self, config: DomainConfig) -> None:
        self.fds: list[int] = []
        try:
            self.fds.append(_open("kernel", config.kernel))
            if config.ramdisk is not None:
                self.fds.append(_open("ramdisk", config.ramdisk))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        while self.fds:
            os.close(self.fds.pop())


@asynccontextmanager
async def boot_files(config: DomainConfig) -> AsyncIterator[BootFiles]:
    """Closed behind the block. A file system that hangs holds up its own domain only. ApiError (refused)."""
    opened = await in_thread(partial(BootFiles, config), BootFiles.close)
    try:
        yield opened
    finally:
        opened.close()


def _open(key: str, path: Path) -> int:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except FileNotFoundError:
        raise ApiError("refused", f"{key} {path} does not exist: correct the path") from None
    except OSError as error:
        raise ApiError("refused", f"{path}: {error.strerror}") from error
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise ApiError("refused", f"{key} {path} is not a file: correct the path")
    except BaseException:
        os.close(fd)
        raise
    return fd
