"""Files of saved domains as xend reads them: whose they are, and whether the host is as it was."""

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

from xenion.api.errors import ApiError
from xenion.api.folders import Folders
from xenion.config.disk import Disk
from xenion.config.domain import DomainConfig
from xenion.domain.saved.format import (
    DONE,
    HEAD,
    HOST,
    PAGES,
    STATE,
    Reader,
    SavedFileError,
    Writer,
    parts_of,
)
from xenion.domain.saved.state import Head, HostDisk, HostState, decode, encode
from xenion.xend.disks.layers import Layers, layers_of
from xenion.xend.live import Live


class OpenSaved:
    """Open and looked through once; `fd` is at the start of the file."""

    def __init__(self, path: Path, fd: int, head: Head, host: HostState) -> None:
        self.path = path
        self.fd = fd
        self.head = head
        self.host = host

    def __enter__(self) -> "OpenSaved":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Again is fine."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


@contextmanager
def _refusals(path: Path) -> Iterator[None]:
    try:
        yield
    except SavedFileError as error:
        raise ApiError("refused", f"{path}: {error}") from error
    except OSError as error:
        raise ApiError("refused", f"{error.filename or path}: {error.strerror}") from error


def open_saved(path: Path) -> OpenSaved:
    """Takes its time. ApiError (refused)."""
    with _refusals(path):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            reader = Reader(fd)
            reader.begin()
            head = decode(reader.section(HEAD), Head)
            while reader.skip(PAGES, STATE) == PAGES:  # written while its guest ran
                pass
            while reader.skip(PAGES, DONE) == PAGES:
                pass
            host = _last_host(reader)
            os.lseek(fd, 0, os.SEEK_SET)
        except BaseException:
            os.close(fd)
            raise
    return OpenSaved(path, fd, head, host)


def _last_host(reader: Reader) -> HostState:
    """A second one that is not whole does not count: xend was killed over it."""
    host = decode(reader.section(HOST), HostState)
    with suppress(SavedFileError):
        return decode(reader.section(HOST), HostState)
    return host


def host_section(host: HostState) -> bytes:
    """The last section, unless another one follows. SaveError."""
    return b"".join(parts_of(HOST, encode(host)))


def append_host(fd: int, host: HostState) -> None:
    """The same at the end of a file, and on the disk. SaveError."""
    writer = Writer(fd)
    writer.section(HOST, encode(host))
    writer.finish()


# --- disks


def host_state(live: Live) -> tuple[HostState, list[str]]:
    """Of a domain whose disks are at rest, and what cannot be told about them."""
    disks = [_as_it_is(disk, live.logs) for disk in live.record.config.disks if disk.writable]
    remarks = [
        f"{disk.vdev}: whether it has changed since cannot be told when the domain is restored"
        for disk in disks
        if disk.size is None
    ]
    return HostState(live.record.lasting, disks), remarks


def _as_it_is(disk: Disk, logs: Path) -> HostDisk:
    """OSError, ApiError."""
    layers = layers_of(disk, logs)
    now = layers.written().stat() if layers is not None else None
    if now is None or not stat.S_ISREG(now.st_mode):
        return HostDisk(disk.vdev, None, None)
    return HostDisk(disk.vdev, now.st_size, now.st_mtime_ns)


def fixed_state(live: Live, fixed: Sequence[tuple[Disk, Layers]], point: str) -> HostState:
    """Of a domain that goes on, and whose disks a checkpoint has fixed. ApiError."""
    disks = []
    for disk, layers in fixed:
        _, stamp = layers.frozen(point)
        disks.append(HostDisk(disk.vdev, stamp.size, stamp.mtime_ns))
    return HostState(live.record.lasting, disks, point)


def check_points(saved: OpenSaved, config: DomainConfig, where: Folders, *, back: bool) -> None:
    """Of a checkpoint: its disks are still as they were, or what they were is kept and they may go `back` to it.
    ApiError (refused)."""
    disks, point = {disk.vdev: disk for disk in config.disks}, saved.host.point
    for then in saved.host.disks:
        disk = disks.get(then.vdev)
        layers = layers_of(disk, where.logs(config.name)) if disk is not None else None
        if layers is None:
            raise ApiError(
                "refused", f"{saved.path}: the domain has no disk {then.vdev} that a checkpoint keeps"
            )
        layers.frozen(point)
        if not back and not layers.is_at(point):
            raise ApiError(
                "refused",
                f"{saved.path}: the disk {then.vdev} was written to after the checkpoint: --back takes it back to what "
                "it was then, and what was written since is lost",
            )


def check_disks(saved: OpenSaved, config: DomainConfig, where: Folders, *, force: bool) -> None:
    """What the guest's memory knows of its disks has to be so, or with `force` they have to be there. ApiError
    (refused)."""
    with _refusals(saved.path):
        logs = where.logs(config.name)
        now = {disk.vdev: _as_it_is(disk, logs) for disk in config.disks if disk.writable}
    for then in saved.host.disks:
        if now.get(then.vdev) != then and not force:
            raise ApiError(
                "refused",
                f"{saved.path}: the disk {then.vdev} has changed since the domain was saved: to go on would ruin what "
                "is on it (--force does so)",
            )
