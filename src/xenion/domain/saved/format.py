"""A domain in a file, or on its way to another host: sections one behind the other, each with its checksum, written
and read in one pass.

    MAGIC, version (little-endian 32 bits)
    HEAD   JSON: which domain it is, with its configuration
    PAGS   pages as they were while the guest ran, and behind each round of them
    SYNC   its number (64 bits), which is to be echoed: only on the way to another host
    STAT   JSON: what it is beside its memory
    PAGS   a count (32 bits), so many frame numbers (64 bits each), their pages; all of it a zstd frame. Repeated
    DONE   the number of pages (64 bits)
    HOST   JSON: what is to be as it was on the host, its disks above all; by xend, which does so again when the
           domain has ended. The last one counts. Only in a file

A section: four letters, the length of what follows (64 bits), that, and its SHA-256 with the letters and the length
before it. Of the same frame the last PAGS counts; frames that are in none are zero.
"""

import errno
import hashlib
import os
import struct
from collections.abc import Callable
from typing import NamedTuple

MAGIC, VERSION = b"XENIONSV", 1
HEAD, STATE, PAGES, SYNC, DONE, HOST = b"HEAD", b"STAT", b"PAGS", b"SYNC", b"DONE", b"HOST"
START = struct.Struct("<8sI")
SECTION = struct.Struct("<4sQ")
COUNT, NUMBER = struct.Struct("<I"), struct.Struct("<Q")
DIGEST_BYTES = 32
MIB = 1 << 20
MOST_BYTES = {HEAD: MIB, STATE: 64 * MIB, PAGES: 2 * MIB, SYNC: NUMBER.size, DONE: NUMBER.size, HOST: MIB}
PIECE_PAGES = 256


class SavedFileError(Exception):
    """The file is not a saved domain that can be used; the message is the second half of a sentence about it."""


class SaveError(Exception):
    """There is no whole file; one sentence says why."""


class Section(NamedTuple):
    kind: bytes
    data: bytes


def digest(kind: bytes, data: bytes) -> bytes:
    made = hashlib.sha256(SECTION.pack(kind, len(data)))
    made.update(data)
    return made.digest()


def parts_of(kind: bytes, data: bytes) -> tuple[bytes, bytes, bytes]:
    """A section. SaveError."""
    if len(data) > MOST_BYTES[kind]:
        raise SaveError("the domain cannot be saved: what it is beside its memory is too large")
    return SECTION.pack(kind, len(data)), data, digest(kind, data)


class Writer:
    """Writes to `fd` from where it is. All methods: SaveError."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.bytes = 0
        """That have been written."""

    def begin(self) -> None:
        self._write(START.pack(MAGIC, VERSION))

    def section(self, kind: bytes, data: bytes) -> None:
        self._write(*parts_of(kind, data))

    def finish(self) -> None:
        """It is on the disk, if it is a file."""
        try:
            os.fsync(self._fd)
        except OSError as error:
            if error.errno != errno.EINVAL:  # a pipe has nothing to wait for
                raise _not_written(error) from error

    def _write(self, *parts: bytes) -> None:
        try:
            for part in parts:
                rest = memoryview(part)
                while rest:
                    rest = rest[os.write(self._fd, rest) :]
                self.bytes += len(part)
        except OSError as error:
            raise _not_written(error) from error


def _not_written(error: OSError) -> SaveError:
    return SaveError(
        f"the domain cannot be saved ({error.strerror}): make room there or name a file elsewhere"
    )


class Reader:
    """Reads from `fd` in one pass. All methods: SavedFileError."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def begin(self) -> None:
        magic, version = START.unpack(self._take(START.size, "it is not a saved domain"))
        if magic != MAGIC:
            raise SavedFileError("it is not a saved domain")
        if version != VERSION:
            raise SavedFileError(
                f"it is of version {version}, and this Xenion reads version {VERSION}: "
                "restore it with the Xenion that saved it, or a newer one"
            )

    def section(self, kind: bytes) -> bytes:
        """What the next one holds, which must be of this kind."""
        return self.next(kind).data

    def next(self, *kinds: bytes) -> Section:
        """The next one, which must be of one of these kinds."""
        kind, size = self._header(kinds)
        data = self._take(size)
        if self._take(DIGEST_BYTES) != digest(kind, data):
            raise SavedFileError("it is damaged")
        return Section(kind, data)

    def skip(self, *kinds: bytes) -> bytes:
        """The kind of the next one, which is passed over; of a file that can be."""
        kind, size = self._header(kinds)
        try:
            os.lseek(self._fd, size + DIGEST_BYTES, os.SEEK_CUR)
        except OSError as error:
            raise SavedFileError(f"it cannot be read ({error.strerror})") from error
        return kind

    def _header(self, kinds: tuple[bytes, ...]) -> tuple[bytes, int]:
        kind, size = SECTION.unpack(self._take(SECTION.size))
        if kind not in kinds or size > MOST_BYTES[kind]:
            raise SavedFileError("it is damaged")
        return kind, size

    def _take(self, size: int, otherwise: str = "it is cut off") -> bytes:
        parts, left = [], size
        while left:
            try:
                part = os.read(self._fd, left)
            except OSError as error:
                raise SavedFileError(f"it cannot be read ({error.strerror})") from error
            if not part:
                raise SavedFileError(otherwise)
            parts.append(part)
            left -= len(part)
        return b"".join(parts)


Progress = Callable[[int, int], bool]
"""Pages that are done, and how many there are; false: stop."""
