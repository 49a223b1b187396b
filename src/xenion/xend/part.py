"""A file that is being written for a domain under a name that is not yet its own."""

import errno
import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from xenion.api.errors import ApiError
from xenion.xend.live import Live
from xenion.xend.storage import sync_folder

PART = ".part"


def file_path(given: str) -> Path:
    """ApiError (bad-request)."""
    path = Path(given)
    if not path.is_absolute() or "\0" in given or path.name in ("", "..", "."):
        raise ApiError("bad-request", "path must be the absolute path of a file")
    return path


class Part:
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
        except ApiError:
            self._forget()
            raise

    def finish(self) -> int:
        """The size of the file, which has its name now. ApiError (refused)."""
        try:
            _check_replaceable(self._path)
            self._part.replace(self._path)
            sync_folder(self._path.parent)
        except (OSError, ValueError) as error:
            raise _refusal(self._path, error) from error
        return os.fstat(self.fd).st_size

    def withdraw(self) -> None:
        """The file that has its name already is good for nothing."""
        with suppress(OSError):
            self._path.unlink()

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
    """No device, pipe or folder gives way to it. OSError, ValueError."""
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
