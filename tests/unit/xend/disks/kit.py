"""Images, and what a guest would read in them."""

import asyncio
import os
import socket
import struct
import subprocess
from collections.abc import Awaitable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from xenion.api.errors import ApiError
from xenion.config.disk import Disk, Format
from xenion.xend.disks.place import DiskPlace, OpenDisk

MIB = 1 << 20
_REQUEST, _ANSWER = struct.Struct(">IHHQQI"), struct.Struct(">IIQ")
READ, WRITE, FLUSH = 0, 1, 3


def raw(path: Path, size: int = MIB, data: bytes = b"") -> Path:
    with path.open("wb") as file:
        file.write(data)
        file.truncate(size)
    return path


def qcow2(path: Path, *more: str, size: int = MIB) -> Path:
    sized = () if "-b" in more else (str(size),)
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *more, str(path), *sized], check=True)
    return path


def disk(path: Path | str, **more: Any) -> Disk:
    return Disk(**{"target": str(path), "vdev": "xvda", **more})


def qcow2_disk(path: Path, **more: Any) -> Disk:
    return disk(path, format=Format.QCOW2, **more)


def of_another(place: DiskPlace, uuid: str = "2") -> DiskPlace:
    return replace(place, uuid=uuid)


async def refusal(work: Awaitable[Any]) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await work
    sentence = caught.value.message
    assert "\n" not in sentence
    return caught.value


def nbd(opened: OpenDisk, kind: int, at: int, data: bytes = b"", *, count: int = 0, which: int = 0) -> bytes:
    """One request on one of its sockets, as xenion.dom0.block does them."""
    with socket.socket(fileno=os.dup(opened.fds[which])) as end:
        end.setblocking(True)
        end.sendall(_REQUEST.pack(0x25609513, 0, kind, 7, at, len(data) or count) + data)
        magic, error, cookie = _ANSWER.unpack(_all(end, _ANSWER.size))
        assert (magic, cookie) == (0x67446698, 7)
        if error:
            raise OSError(error, "the server refuses")
        return _all(end, count)


def _all(end: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = end.recv(count - len(data))
        assert more, "the server has hung up"
        data += more
    return data


def run(work: Any) -> Any:
    async def limited() -> Any:
        return await asyncio.wait_for(work, 60)

    return asyncio.run(limited())
