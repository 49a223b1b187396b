"""dump: a guest's memory as an ELF core file."""

import asyncio
import errno
import os
import secrets
import stat
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from xenion.api.errors import ApiError
from xenion.xend.call import Call, Handler
from xenion.xend.live import Live
from xenion.xend.logstate import clean
from xenion.xend.services import Services
from xenion.xend.storage import private_folder
from xenion.xend.tasks import RunningTask

PART = ".part"
REMARKS = 20
STUCK_S = 60.0
"""A dump that does not get on for so long is given up."""


class Dump:
    def __init__(self, services: Services) -> None:
        self._services = services

    def handlers(self) -> Mapping[str, Handler]:
        return {"dump": self._dump}

    async def _dump(self, call: Call) -> RunningTask:
        live = self._services.registry.need_live(call.parameters["domain"])
        path = self._path(live, call.body.get("path", ""))
        part = _Part(live, path)

        async def work(task: RunningTask) -> dict[str, Any]:
            try:
                answer = await _write(live, part.fd, task, live_dump=bool(call.body.get("live")))
                size = part.finish()
            finally:
                part.close()
            if call.body.get("crash"):
                await live.stop()
            return {"path": str(path), "size": size, "remarks": _remarks(answer.get("remarks"))}

        try:
            return self._services.tasks.start("dump", live.name, work)
        except ApiError:
            part.close()
            raise

    def _path(self, live: Live, given: str) -> Path:
        """Where the core goes. ApiError."""
        if given:
            path = Path(given)
            if not path.is_absolute() or "\0" in given or path.name in ("", "..", "."):
                raise ApiError("bad-request", "path must be the absolute path of a file")
            return path
        stamp = time.strftime("%Y-%m%d-%H%M.%S")
        try:
            folder = private_folder(self._services.where.dumps)
        except OSError as error:
            raise ApiError("refused", f"{error.filename}: {error.strerror}") from error
        return folder / f"{stamp}-{live.name}.{live.domid}.core"


async def _write(live: Live, fd: int, task: RunningTask, *, live_dump: bool) -> dict[str, Any]:
    moved = asyncio.Event()

    def progress(done: int, total: int) -> None:
        task.step("writing the core", done / total if total else None)
        moved.set()

    task.step("writing the core", 0.0)
    asked = live.ask("dump", live=live_dump, fds=[fd], progress=progress, timeout=None)
    answer = asyncio.ensure_future(asked)
    try:
        while not answer.done():
            moved.clear()
            waiting = asyncio.ensure_future(moved.wait())
            done, _ = await asyncio.wait([answer, waiting], timeout=STUCK_S, return_when="FIRST_COMPLETED")
            waiting.cancel()
            if not done:
                await _give_up(live, answer)
                raise ApiError("failed", f"the process of {live.name} does not answer: `xm destroy` ends it")
        return answer.result()
    except asyncio.CancelledError:
        await _give_up(live, answer)
        raise


async def _give_up(live: Live, answer: "asyncio.Future[Any]") -> None:
    """The process may come to itself later: then it writes no more."""
    answer.cancel()
    with suppress(ApiError):
        await live.ask("cancel-dump")


def _remarks(said: Any) -> list[str]:
    """The process may be its guest's: some sentences, or nothing."""
    return [clean(str(remark)) for remark in said[:REMARKS]] if isinstance(said, list) else []


class _Part:
    """The unfinished file beside `path`: written down, so that the next xend removes it if this one is killed."""

    def __init__(self, live: Live, path: Path) -> None:
        """ApiError (refused)."""
        self._live = live
        self._path = self._part = path
        try:
            self._path = Path(os.path.realpath(path))  # a link stays one
            self._part = self._path.with_name(f"{self._path.name}.{secrets.token_hex(4)}{PART}")
            _check_replaceable(self._path)
            self._remember()
            self.fd = os.open(self._part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except (OSError, ValueError) as error:
            self._forget()
            raise _refusal(path, error) from error

    def finish(self) -> int:
        """The size of the file, which has its name now. ApiError (refused)."""
        try:
            _check_replaceable(self._path)
            self._part.replace(self._path)
        except OSError as error:
            raise _refusal(self._path, error) from error
        return os.fstat(self.fd).st_size

    def close(self) -> None:
        """Unfinished, it is gone."""
        os.close(self.fd)
        with suppress(OSError):
            self._part.unlink(missing_ok=True)
        self._forget()

    def _remember(self) -> None:
        self._live.record.parts.append(str(self._part))
        self._live.save()

    def _forget(self) -> None:
        with suppress(ValueError, ApiError):
            self._live.record.parts.remove(str(self._part))
            self._live.save()


def _check_replaceable(path: Path) -> None:
    """No device, pipe or folder gives way to a core. OSError, ValueError."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(mode):
        raise ValueError("this is no ordinary file: name another one")


def _refusal(path: Path, error: Exception) -> ApiError:
    why = error.strerror if isinstance(error, OSError) else str(error)
    return ApiError("refused", f"{path}: {why}")
