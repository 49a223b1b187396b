"""The state file's format: a head, then frames; each is one turn's changes, all of them or none.

A frame's head tells its length, the store's generation after it, and two CRC-32: of what follows, and of the head.
The process may be killed while it writes: then the last frame is short, and was never acknowledged.
"""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from xenion.dom0.xenstore.journal import FORMAT, Record

MAGIC = b"XENIONXS"
_FILE_HEAD = struct.Struct("<8sI")
_FRAME_HEAD = struct.Struct("<IQI")
_CRC = struct.Struct("<I")
FRAME_HEAD_SIZE = _FRAME_HEAD.size + _CRC.size
_RECORD = struct.Struct("<BIII")
_pack = _RECORD.pack


class StateError(Exception):
    """What the store was cannot be read, or what it is cannot be kept."""


class Frame(NamedTuple):
    """`end`: where in the file it ends."""

    records: bytes
    generation: int
    end: int


def file_head() -> bytes:
    return _FILE_HEAD.pack(MAGIC, FORMAT)


def record(kind: Record, a: bytes = b"", b: bytes = b"", c: bytes = b"") -> tuple[bytes, bytes, bytes, bytes]:
    """The parts of a record."""
    return _pack(kind, len(a), len(b), len(c)), a, b, c


def frame(records: bytes, generation: int) -> bytes:
    head = _FRAME_HEAD.pack(len(records), generation, zlib.crc32(records))
    return b"".join((head, _CRC.pack(zlib.crc32(head)), records))


def read_file(path: Path, data: bytes) -> Iterator[Frame]:
    """Every whole frame of a state file; a torn one at its end is passed over. StateError when it is damaged."""
    if not data:
        return
    _check_head(path, data)
    at = _FILE_HEAD.size
    while at + FRAME_HEAD_SIZE <= len(data):
        head = data[at : at + _FRAME_HEAD.size]
        if _CRC.unpack_from(data, at + _FRAME_HEAD.size)[0] != zlib.crc32(head):
            raise _damaged(path, at)
        length, generation, crc = _FRAME_HEAD.unpack(head)
        start = at + FRAME_HEAD_SIZE
        if start + length > len(data):
            return
        records = data[start : start + length]
        if zlib.crc32(records) != crc:
            raise _damaged(path, at)
        at = start + length
        yield Frame(records, generation, at)


def records_of(path: Path, read: Frame) -> Iterator[tuple[Record, bytes, bytes, bytes]]:
    """The records of a frame; StateError for one that no version of this has written."""
    data, at = read.records, 0
    while at < len(data):
        try:
            kind, a, b, c = _RECORD.unpack_from(data, at)
            known = Record(kind)
        except (struct.error, ValueError) as error:
            raise _damaged(path, read.end - len(data) + at) from error
        at += _RECORD.size
        yield known, data[at : at + a], data[at + a : at + a + b], data[at + a + b : at + a + b + c]
        at += a + b + c


def _check_head(path: Path, data: bytes) -> None:
    if len(data) < _FILE_HEAD.size:
        raise StateError(f"{path} is no state of a xenstored: move it away to start with an empty store")
    magic, version = _FILE_HEAD.unpack_from(data)
    if magic != MAGIC:
        raise StateError(f"{path} is no state of a xenstored: move it away to start with an empty store")
    if version != FORMAT:
        raise StateError(
            f"{path} is of version {version} and this xenstored keeps version {FORMAT}: "
            "run the Xenion that wrote it, or move it away to start with an empty store"
        )


def _damaged(path: Path, at: int) -> StateError:
    return StateError(
        f"{path} is damaged at byte {at}: the store cannot be had again; "
        "move the file away to start with an empty one, and destroy the domains that used it"
    )
