"""Where Debian is unpacked: away from the host's mounts and processes, in memory where there is plenty of it.

A user is root there, in a user namespace. Mounts and processes are in namespaces of their own as well, so that killing
the one process ends all others and leaves nothing mounted.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from xenion.images.failure import RootDiskError
from xenion.images.programs import environment, run

NEEDED_BYTES = 2 << 30
"""Room that a build takes meanwhile, at least."""
_SPARE_BYTES = 1 << 30
_AS_ROOT = ("unshare", "--user", "--map-auto", "--map-root-user")
_APART = ("--mount", "--propagation", "private", "--pid", "--fork", "--kill-child")
# A host's /dev/shm may hold mounts that nobody may bind in a user namespace.
_ENTER = """\
set -e
if mountpoint -q /dev/shm; then mount -t tmpfs -o mode=1777 xenion /dev/shm; fi
if [ "$1" != 0 ]; then mount -t tmpfs -o "mode=755,size=$1" xenion "$2"; fi
shift 2
exec "$@"
"""


class RoomError(RootDiskError):
    """There is no room."""


@dataclass(frozen=True, slots=True)
class Workshop:
    """`folder` is what mmdebstrap may fill; `memory_bytes` is how much of memory, 0 for none of it."""

    folder: Path
    isolated: bool
    memory_bytes: int

    def inside(self, command: Sequence[str]) -> list[str]:
        """`command` as it runs in the workshop."""
        if not self.isolated:
            return list(command)
        enter = ["sh", "-c", _ENTER, "sh", str(self.memory_bytes), str(self.folder)]
        return [*(_AS_ROOT if os.geteuid() else ("unshare",)), *_APART, *enter, *command]


@contextmanager
def workshop(folder: Path) -> Iterator[Workshop]:
    """At `folder`, one at a time, for the holder of the cache's lock; what is left there is removed. RoomError."""
    _clear(folder)
    folder.mkdir()
    try:
        isolated = refusal() is None
        memory = spare_memory() if isolated else 0
        if memory < NEEDED_BYTES:
            memory = 0
            need_room(folder)
        yield Workshop(folder.absolute(), isolated, memory)
    finally:
        _clear(folder)


def refusal() -> str | None:
    """Why this host does not let us have namespaces, in few words; None: it does."""
    command = [*(_AS_ROOT if os.geteuid() else ("unshare",)), *_APART, "true"]
    tried = subprocess.run(
        command, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    if tried.returncode == 0:
        return None
    words = tried.stderr.decode(errors="replace").strip().splitlines() or [f"status {tried.returncode}"]
    return words[-1].strip().removeprefix("unshare: ")


def _clear(folder: Path) -> None:
    """Files of users that only the namespace has need it to be removed."""
    if not folder.exists():
        return
    if os.geteuid():
        run([*_AS_ROOT, "rm", "-rf", "--one-file-system", "--", str(folder)], folder=folder.parent)
    else:
        shutil.rmtree(folder)


def need_room(folder: Path, size: int = NEEDED_BYTES) -> None:
    """RoomError if fewer than `size` bytes are free in `folder`, which exists."""
    try:
        status = os.statvfs(folder)
    except OSError as error:
        raise RoomError(f"{folder} cannot be used: {error.strerror}.") from error
    free = status.f_bavail * status.f_frsize
    if free < size:
        raise RoomError(
            f"Only {free >> 20} MiB are free in {folder}, and {-(-size >> 20)} MiB are needed: make room there."
        )


def spare_memory() -> int:
    """Bytes of memory that nobody misses meanwhile: of the host, or of the control group that we are in."""
    try:
        words = Path("/proc/meminfo").read_text().split()
        spare = int(words[words.index("MemAvailable:") + 1]) << 10
    except (OSError, ValueError):
        return 0
    return max(min([spare, *_group_limits()]) - _SPARE_BYTES, 0)


def _group_limits() -> Iterator[int]:
    for most, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            limit = int((Path("/sys/fs/cgroup") / most).read_text())
            yield limit - int((Path("/sys/fs/cgroup") / used).read_text())
        except (OSError, ValueError):  # not this kind of groups, or no limit
            continue
