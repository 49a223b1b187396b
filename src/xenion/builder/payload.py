"""Kernel file -> ELF bytes: Linux's bzImage container and the compression formats it uses.

The container follows Linux's x86 boot protocol, version 2.08 and later, where ``payload_offset`` and
``payload_length`` find a compressed ELF. Input is hostile: output is bounded, and whatever a decompressor
makes of it, only KernelImageError leaves this module.
"""

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from xenion.builder.errors import KernelImageError

MAX_KERNEL_SIZE = 512 << 20
"""Bytes a kernel may have when decompressed; a larger one is taken for a decompression bomb."""

ELF_MAGIC = b"\x7fELF"

_BOOT_FLAG = (0x1FE, 0xAA55)
_HDRS_OFFSET = 0x202
_SETUP_SECTS_OFFSET = 0x1F1
_DEFAULT_SETUP_SECTS = 4
_PAYLOAD_OFFSET = 0x248
_SETUP_HEADER_END = 0x250
_PAYLOAD_PROTOCOL = 0x0208
_SECTOR = 512

_LZMA_MEMORY = 256 << 20
_LZ4_BLOCK = 8 << 20
_LZOP_BLOCK = 256 << 10


def extract_elf(data: bytes) -> bytes:
    """Return the ELF file inside ``data``: a bzImage, an ELF, or either of the two compressed as a whole.

    Raises KernelImageError for anything else, and for truncated or corrupt input.
    """
    image: bytes | memoryview = data
    if not _is_kernel(image):
        image = _decompress(memoryview(data), None, "the file")
    if _is_bzimage(image):
        image = _unpack_bzimage(memoryview(image))
    if bytes(image[:4]) != ELF_MAGIC:
        raise KernelImageError(
            "the kernel image holds no ELF file after decompression: give a Linux vmlinuz or an ELF"
        )
    return bytes(image)


def _is_kernel(image: bytes | memoryview) -> bool:
    return bytes(image[:4]) == ELF_MAGIC or _is_bzimage(image)


def _is_bzimage(image: bytes | memoryview) -> bool:
    offset, flag = _BOOT_FLAG
    return (
        bytes(image[_HDRS_OFFSET : _HDRS_OFFSET + 4]) == b"HdrS"
        and int.from_bytes(image[offset : offset + 2], "little") == flag
    )


def _unpack_bzimage(image: memoryview) -> bytes | memoryview:
    if len(image) < _SETUP_HEADER_END:
        raise KernelImageError(
            f"the bzImage ends within its setup header, after {len(image)} bytes: it is truncated"
        )
    version = int.from_bytes(image[_HDRS_OFFSET + 4 : _HDRS_OFFSET + 6], "little")
    if version < _PAYLOAD_PROTOCOL:
        raise KernelImageError(
            f"the bzImage has boot protocol {version >> 8}.{version & 0xFF:02}, which hides its ELF: "
            f"2.08 (Linux 2.6.24) or later is needed"
        )
    sectors = (image[_SETUP_SECTS_OFFSET] or _DEFAULT_SETUP_SECTS) + 1
    offset, length = struct.unpack_from("<II", image, _PAYLOAD_OFFSET)
    start = sectors * _SECTOR + offset
    if start + length > len(image):
        raise KernelImageError(
            f"the bzImage's payload ends at byte {start + length}, but the file has {len(image)}: "
            f"it is truncated"
        )
    payload = image[start : start + length]
    if bytes(payload[:4]) == ELF_MAGIC:
        return payload
    return _decompress(payload, *_size_trailer(payload))


def _size_trailer(payload: memoryview) -> tuple[int | None, str]:
    """Linux appends the decompressed size, 32 bits, to every payload but gzip's, which ends in its own."""
    where = "the bzImage's payload"
    if len(payload) < 8:
        raise KernelImageError(f"{where} has only {len(payload)} bytes: the file is corrupt")
    if bytes(payload[:2]) == b"\x1f\x8b":
        return None, where
    size = int.from_bytes(payload[-4:], "little")
    if size > MAX_KERNEL_SIZE:
        raise KernelImageError(
            f"{where} claims to be {size} bytes decompressed, above the limit of {MAX_KERNEL_SIZE}: "
            f"it is corrupt"
        )
    return size, where


def _decompress(stream: memoryview, size: int | None, where: str) -> bytes:
    """Decompress ``stream``; where ``size`` is given, it ends in the 4-byte trailer that says so."""
    head = bytes(stream[:9])
    for compression in _COMPRESSIONS:
        if head.startswith(compression.magic):
            break
    else:
        raise KernelImageError(
            f"{where} starts with {head[:4].hex() or 'nothing'}, which is no bzImage, no ELF and no known "
            f"compression"
        )
    limit = MAX_KERNEL_SIZE
    if size is not None:
        stream, limit = stream[:-4], size
    try:
        data = compression.decode(stream, limit)
    except _StreamError as error:
        raise KernelImageError(
            f"{where} is {compression.name} data that is truncated or corrupt: {error}"
        ) from error
    if len(data) > limit or (size is not None and len(data) != size):
        raise KernelImageError(
            f"{where} is {compression.name} data that yields other than {limit} bytes: it is corrupt"
        )
    return data


class _StreamError(Exception):
    """A decompressor refused its input, and why."""


class _Decoder(Protocol):
    """What zlib's, bz2's and lzma's decompressor objects have in common."""

    @property
    def eof(self) -> bool: ...


def _whole(decoder: _Decoder, data: bytes, limit: int) -> bytes:
    if not decoder.eof and len(data) <= limit:
        raise _StreamError("it ends too early")
    return data


def _gzip(stream: memoryview, limit: int) -> bytes:
    decoder = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        return _whole(decoder, decoder.decompress(stream, limit + 1), limit)
    except zlib.error as error:
        raise _StreamError(error) from error


def _bzip2(stream: memoryview, limit: int) -> bytes:
    import bz2

    decoder = bz2.BZ2Decompressor()
    try:
        return _whole(decoder, decoder.decompress(stream, limit + 1), limit)
    except OSError as error:  # bz2 reports bad data as OSError
        raise _StreamError(error) from error


def _xz(stream: memoryview, limit: int) -> bytes:
    import lzma

    return _lzma_stream(lzma.FORMAT_XZ, stream, limit)


def _lzma_alone(stream: memoryview, limit: int) -> bytes:
    import lzma

    return _lzma_stream(lzma.FORMAT_ALONE, stream, limit)


def _lzma_stream(container: int, stream: memoryview, limit: int) -> bytes:
    import lzma

    try:
        decoder = lzma.LZMADecompressor(container, memlimit=_LZMA_MEMORY)
        return _whole(decoder, decoder.decompress(stream, limit + 1), limit)
    except lzma.LZMAError as error:
        raise _StreamError(error) from error


def _zstd(stream: memoryview, limit: int) -> bytes:
    import zstandard

    try:
        # The decompressor allocates what a frame claims to hold before it reads on.
        if zstandard.frame_content_size(stream) > limit:
            raise _StreamError(f"it claims to hold more than {limit} bytes")
        return zstandard.ZstdDecompressor().decompress(stream, max_output_size=limit + 1)
    except zstandard.ZstdError as error:
        raise _StreamError(error) from error


def _lz4(stream: memoryview, limit: int) -> bytes:
    """The legacy frame: the magic, then blocks that each hold 8 MiB, but for the last."""
    import lz4.block

    blocks: list[bytes] = []
    position, total = 4, 0
    while position < len(stream):
        if blocks and len(blocks[-1]) < _LZ4_BLOCK:
            raise _StreamError("a block follows its last one")
        (length,) = _unpack("<I", stream, position)
        block = _slice(stream, position + 4, length)
        try:
            blocks.append(lz4.block.decompress(block, uncompressed_size=_LZ4_BLOCK))
        except lz4.block.LZ4BlockError as error:
            raise _StreamError(error) from error
        position += 4 + length
        total += len(blocks[-1])
        if total > limit:
            raise _StreamError(f"it holds more than {limit} bytes")
    return b"".join(blocks)


_LZOP_ADLER32_D = 0x00000001
_LZOP_ADLER32_C = 0x00000002
_LZOP_CRC32_D = 0x00000100
_LZOP_CRC32_C = 0x00000200
_LZOP_FILTER = 0x00000800
_LZOP_WITH_LEVEL = 0x0940


def _lzop(stream: memoryview, limit: int) -> bytes:
    """lzop's container, big-endian: a header, then blocks of at most 256 KiB, as Linux accepts it."""
    position, flags = _lzop_header(stream)
    plain_checks = (flags & (_LZOP_ADLER32_D | _LZOP_CRC32_D)).bit_count()
    packed_checks = (flags & (_LZOP_ADLER32_C | _LZOP_CRC32_C)).bit_count()
    blocks: list[bytes] = []
    total = 0
    while True:
        (plain,) = _unpack(">I", stream, position)
        if plain == 0:
            return b"".join(blocks)
        (packed,) = _unpack(">I", stream, position + 4)
        if plain > _LZOP_BLOCK or not 0 < packed <= plain:
            raise _StreamError(f"a block has impossible sizes, {packed} bytes for {plain}")
        total += plain
        if total > limit:
            raise _StreamError(f"it holds more than {limit} bytes")
        checks = plain_checks + (packed_checks if packed < plain else 0)
        start = position + 8 + 4 * checks
        block = _lzo_block(_slice(stream, start, packed), plain)
        if flags & _LZOP_ADLER32_D and _unpack(">I", stream, position + 8) != (zlib.adler32(block),):
            raise _StreamError("a block's checksum differs")
        blocks.append(block)
        position = start + packed


def _lzop_header(stream: memoryview) -> tuple[int, int]:
    """Where the first block starts, and the flags."""
    (version,) = _unpack(">H", stream, 9)
    position = 16 + (1 if version >= _LZOP_WITH_LEVEL else 0)
    (flags,) = _unpack(">I", stream, position)
    position += 4 + (4 if flags & _LZOP_FILTER else 0)
    position += 12 if version >= _LZOP_WITH_LEVEL else 8  # mode, mtime
    (name_length,) = _unpack(">B", stream, position)
    return position + 1 + name_length + 4, flags


def _lzo_block(packed: memoryview, size: int) -> bytes:
    if len(packed) == size:
        return bytes(packed)
    from lzallright import LZOCompressor, LZOError

    try:
        block = LZOCompressor.decompress(packed, output_size_hint=size)
    except LZOError as error:
        raise _StreamError(error) from error
    if len(block) != size:
        raise _StreamError(f"a block holds {len(block)} bytes instead of {size}")
    return block


def _unpack(form: str, stream: memoryview, position: int) -> tuple[int, ...]:
    if position + struct.calcsize(form) > len(stream):
        raise _StreamError("it ends too early")
    return struct.unpack_from(form, stream, position)


def _slice(stream: memoryview, position: int, length: int) -> memoryview:
    if position + length > len(stream):
        raise _StreamError("it ends too early")
    return stream[position : position + length]


@dataclass(frozen=True)
class _Compression:
    name: str
    magic: bytes
    decode: Callable[[memoryview, int], bytes]
    """Decompress a stream; yield at most one byte above the limit, or raise _StreamError."""


_COMPRESSIONS = (
    _Compression("gzip", b"\x1f\x8b", _gzip),
    _Compression("bzip2", b"BZh", _bzip2),
    _Compression("xz", b"\xfd7zXZ\x00", _xz),
    _Compression("zstd", b"\x28\xb5\x2f\xfd", _zstd),
    _Compression("lz4", b"\x02\x21\x4c\x18", _lz4),
    _Compression("lzop", b"\x89LZO\x00\r\n\x1a\n", _lzop),
    _Compression("lzma", b"\x5d\x00", _lzma_alone),
)
