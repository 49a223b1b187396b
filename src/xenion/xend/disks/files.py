"""Raw files and block devices, which the domain process reads and writes itself."""

import errno
import fcntl
import os
import stat
import struct
from contextlib import suppress
from pathlib import Path

from xenion.config.disk import Disk
from xenion.dom0.block import locks
from xenion.xend.disks.errors import cannot, in_use, no_locks, not_opened
from xenion.xend.disks.place import DiskPlace, OpenDisk, description

_BLKGETSIZE64 = 0x80081272
"""linux/fs.h: the size of a block device in bytes."""
MOUNTS = Path("/proc/self/mountinfo")
_FLAGS = os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


def open_file(disk: Disk, place: DiskPlace) -> OpenDisk:
    """A locked file or device. ApiError."""
    writable = disk.writable
    fd = open_image(disk, disk.target, place, writable=writable)
    made = OpenDisk({}, [fd])
    try:
        made.description = description(disk, "file", size_of(disk, disk.target, fd))
        if writable and place.arriving:
            made.lock = lambda: _lock(disk, place, made)
        else:
            _lock(disk, place, made)
    except BaseException:
        made.close()
        raise
    return made


def _lock(disk: Disk, place: DiskPlace, made: OpenDisk) -> None:
    """ApiError."""
    try:
        (locks.take_over if place.arriving else locks.take)(made.fds[0], writable=disk.writable)
    except locks.InUseError:
        raise in_use(disk, disk.target, place) from None
    except locks.NoLocksError:
        made.notes.append(no_locks(disk, disk.target))
    except OSError as error:
        raise not_opened(disk, disk.target, error) from error


def open_image(disk: Disk, path: str, place: DiskPlace, *, writable: bool) -> int:
    """The caller's descriptor of a regular file or a block device. ApiError."""
    mode = os.O_RDWR if writable else os.O_RDONLY
    try:
        fd = os.open(path, mode | _FLAGS)
    except OSError as error:
        raise not_opened(disk, path, error) from error
    try:
        kind = os.fstat(fd)
        if stat.S_ISBLK(kind.st_mode):
            return _claim(disk, path, place, fd, kind.st_rdev, mode)
        if not stat.S_ISREG(kind.st_mode):
            raise cannot(disk, f"{path} is neither a file nor a block device: correct the path")
    except BaseException:
        os.close(fd)
        raise
    return fd


def _claim(disk: Disk, path: str, place: DiskPlace, fd: int, device: int, mode: int) -> int:
    """The device's descriptor, `fd` or another one that keeps the host from using the device meanwhile. ApiError."""
    if mode == os.O_RDONLY:
        if mount := mounted_for_writing(device):
            raise cannot(disk, f"{path} is mounted for writing at {mount}: unmount it, or mount it read-only")
        return fd
    try:
        claimed = os.open(f"/proc/self/fd/{fd}", mode | os.O_EXCL | _FLAGS)
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise in_use(disk, path, place) from error
        raise not_opened(disk, path, error) from error
    os.close(fd)
    return claimed


def is_device(path: str) -> bool:
    """Whether it is a block device; of what cannot be looked at whoever opens it says so."""
    try:
        return stat.S_ISBLK(Path(path).stat().st_mode)
    except OSError:
        return False


def mounted_for_writing(device: int) -> str:
    """Where a file system of the device is mounted so; "" if it is not (proc_pid_mountinfo(5))."""
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in MOUNTS.read_text(errors="replace").splitlines():
        mount, _, system = line.partition(" - ")
        words = mount.split()
        if len(words) > 4 and words[2] == number and "rw" in system.split()[-1].split(","):
            return words[4]
    return ""


def size_of(disk: Disk, path: str, fd: int) -> int:
    """In bytes, at least one sector. ApiError."""
    size = bytes_of(fd)
    if size < disk.sector_bytes:
        raise cannot(
            disk, f"{path} has {size} bytes, less than a sector: give it a size, as with `truncate -s 1G`"
        )
    return size


def bytes_of(fd: int) -> int:
    """The size of a file or block device. OSError."""
    status = os.fstat(fd)
    if not stat.S_ISBLK(status.st_mode):
        return status.st_size
    return int(struct.unpack("Q", fcntl.ioctl(fd, _BLKGETSIZE64, bytes(8)))[0])


def grow_file(disk: Disk, size_bytes: int, place: DiskPlace) -> int:
    """The new size of the file that the domain has open; a device's is what it has become. ApiError."""
    try:
        fd = os.open(disk.target, os.O_RDWR | _FLAGS)
    except OSError as error:
        raise not_opened(disk, disk.target, error) from error
    try:
        return _grow(disk, fd, size_bytes)
    except OSError as error:
        raise not_opened(disk, disk.target, error) from error
    finally:
        os.close(fd)


def _grow(disk: Disk, fd: int, size_bytes: int) -> int:
    size = bytes_of(fd)
    if stat.S_ISBLK(os.fstat(fd).st_mode):
        if size < size_bytes:
            raise cannot(disk, f"{disk.target} has {size} bytes: grow the device first")
        return size
    held = True
    with suppress(OSError):  # a file system without locks cannot tell
        held = locks.is_written(fd)
    if not held:
        raise cannot(disk, f"{disk.target} is not the file any more that the domain has open: put it back")
    if size_bytes < size:
        raise cannot(disk, f"{disk.target} has {size} bytes and can only grow: give a larger size")
    os.ftruncate(fd, size_bytes)
    return size_bytes
