"""Writes an initramfs: a newc cpio archive, gzipped; the same files always give the same bytes.

The format is told in Linux's Documentation/driver-api/early-userspace/buffer-format.rst.
"""

import os
import stat
import zlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

_MAGIC = b"070701"
_TRAILER = "TRAILER!!!"
_MOST_BYTES = (1 << 32) - 1
_NAME_MOST = 4095  # PATH_MAX without its final NUL

# Linux opens /dev/console for init before init can mount anything.
_DEVICES = {"dev/console": (5, 1), "dev/null": (1, 3)}


class InitramfsError(Exception):
    """Files that no initramfs can be made of."""


def build(files: Mapping[str, bytes | Path]) -> bytes:
    """The initramfs that holds `files`: guest path -> content, or the host's file that has it.

    Folders on the way, /dev/console and /dev/null are added. Everything belongs to root, every file may be
    executed.
    Raises InitramfsError for a path that cannot be, OSError for a host file that cannot be read.
    """
    contents = {_clean(name): content for name, content in files.items()}
    if len(contents) != len(files):
        raise InitramfsError("Two files have the same path in the guest.")
    names = {*contents, *_DEVICES}
    folders = {str(parent) for name in names for parent in PurePosixPath(name).parents} - {"."}
    clash = sorted((folders & names) | (contents.keys() & _DEVICES.keys()))
    if clash:
        raise InitramfsError(f"{clash[0]!r} cannot be a file in the guest: it is a folder or a device there.")

    packer = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)  # gzip without name and time
    parts = []
    for number, name in enumerate(sorted(names | folders), start=1):
        parts.append(packer.compress(_entry(name, number, contents.get(name))))
    parts.append(packer.compress(_record(_TRAILER, 0, 0, 1, b"", (0, 0))))
    parts.append(packer.flush())
    return b"".join(parts)


def _entry(name: str, number: int, content: bytes | Path | None) -> bytes:
    if name in _DEVICES:
        return _record(name, number, stat.S_IFCHR | 0o600, 1, b"", _DEVICES[name])
    if content is None:
        return _record(name, number, stat.S_IFDIR | 0o755, 2, b"", (0, 0))
    data = content.read_bytes() if isinstance(content, Path) else content
    if len(data) > _MOST_BYTES:
        raise InitramfsError(f"{name!r} has {len(data)} bytes: the format ends at {_MOST_BYTES}.")
    return _record(name, number, stat.S_IFREG | 0o755, 1, data, (0, 0))


def _record(name: str, number: int, mode: int, links: int, data: bytes, device: tuple[int, int]) -> bytes:
    raw = os.fsencode(name) + b"\0"
    owner = group = mtime = checksum = 0
    fields = [number, mode, owner, group, links, mtime, len(data), 0, 0, *device, len(raw), checksum]
    header = _MAGIC + b"".join(b"%08X" % field for field in fields) + raw
    return _padded(header) + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _clean(name: str) -> str:
    """`name` as the archive has it: relative to the root, without empty parts."""
    path = PurePosixPath("/", name).relative_to("/")
    if not path.parts or ".." in path.parts or "\0" in name or name.endswith("/"):
        raise InitramfsError(f"{name!r} is no file's path in a guest.")
    clean = str(path)
    try:
        length = len(os.fsencode(clean))
    except UnicodeEncodeError as error:
        raise InitramfsError(f"{name!r} cannot be written as bytes.") from error
    if clean == _TRAILER or length > _NAME_MOST:
        raise InitramfsError(f"{clean[:80]!r} cannot be a file's name in an initramfs.")
    return clean
