"""The head of a qcow2 file (QEMU's docs/interop/qcow2.txt): what it makes QEMU open beside the file itself.

The file may be anybody's. It is looked at here before any program of QEMU's opens it, for its head can name other files
and even servers; what is stored in it is QEMU's business alone.
"""

import struct
from dataclasses import dataclass

HEAD_BYTES = 1 << 16
NAME_BYTES = 1023
_MAGIC = b"QFI\xfb"
_FIRST = struct.Struct(">4sIQIIQI")
"""Magic, version, offset and length of the backing file's name, cluster bits, size, encryption method."""
_V2_LENGTH, _V3_FIELDS = 72, struct.Struct(">QQQII")
"""From byte 72 of version 3: incompatible, compatible and autoclear features, refcount order, header length."""
_EXTERNAL_DATA = 1 << 2
_EXTENSION = struct.Struct(">II")
_END, _BACKING_FORMAT, _DATA_FILE = 0, 0xE2792ACA, 0x44415441


class HeaderError(ValueError):
    """The sentence goes on from the file's name."""


@dataclass(frozen=True, slots=True)
class Header:
    """`backing` and `backing_format` are as they stand in the file, "" for none."""

    size_bytes: int
    backing: str
    backing_format: str


def parse(head: bytes) -> Header:
    """From the file's first HEAD_BYTES. HeaderError: it is not to be used."""
    if head[:4] != _MAGIC:
        raise HeaderError("is not a qcow2 image: correct its format")
    if len(head) < _V2_LENGTH:
        raise HeaderError("ends within its header: it is damaged")
    _, version, at, length, _, size, encrypted = _FIRST.unpack_from(head)
    if version not in (2, 3):
        raise HeaderError(f"is qcow2 of version {version}: convert it with qemu-img")
    if encrypted:
        raise HeaderError("is encrypted, which is not supported: convert it with qemu-img")
    extensions_at = _V2_LENGTH if version == 2 else _header_length(head)
    extensions = dict(_extensions(head, extensions_at))
    if _DATA_FILE in extensions:
        raise HeaderError("keeps its data in another file, which is not supported: convert it with qemu-img")
    return Header(
        size, _text(_slice(head, at, length)) if at else "", _text(extensions.get(_BACKING_FORMAT, b""))
    )


def _header_length(head: bytes) -> int:
    if len(head) < _V2_LENGTH + _V3_FIELDS.size:
        raise HeaderError("ends within its header: it is damaged")
    incompatible, _, _, _, length = _V3_FIELDS.unpack_from(head, _V2_LENGTH)
    if incompatible & _EXTERNAL_DATA:
        raise HeaderError("keeps its data in another file, which is not supported: convert it with qemu-img")
    if not _V2_LENGTH + _V3_FIELDS.size <= length <= HEAD_BYTES:
        raise HeaderError("has a header of a wrong length: it is damaged")
    return int(length)


def _extensions(head: bytes, at: int) -> list[tuple[int, bytes]]:
    found: list[tuple[int, bytes]] = []
    while len(head) - at >= _EXTENSION.size:
        kind, length = _EXTENSION.unpack_from(head, at)
        if kind == _END:
            break
        found.append((kind, _slice(head, at + _EXTENSION.size, length, HEAD_BYTES)))
        at += _EXTENSION.size + (length + 7) // 8 * 8
    return found


def _slice(head: bytes, at: int, length: int, most: int = NAME_BYTES) -> bytes:
    if length > most or at + length > len(head):
        raise HeaderError("has a header that points behind its end: it is damaged")
    return head[at : at + length]


def _text(name: bytes) -> str:
    try:
        text = name.decode()
    except UnicodeDecodeError:
        raise HeaderError("names a backing file that is no text: it is damaged") from None
    if not text.isprintable():
        raise HeaderError("names a backing file with control characters: it is damaged")
    return text
