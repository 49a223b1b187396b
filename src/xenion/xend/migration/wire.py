"""The stream between two xends: a greeting each way, then frames. Whoever reads does not trust who writes.

    MAGIC, version (little-endian 32 bits)
    a letter, a length, a CRC-32 (32 bits each), and so many bytes: J a message in JSON, D a part of a domain's stream

The checksum is against accidents: against others there is TLS.
"""

import asyncio
import socket
import ssl
import struct
import zlib
from typing import NamedTuple

MAGIC, VERSION = b"XENIONMG", 1
GREETING = struct.Struct("<8sI")
HEADER = struct.Struct("<cII")
MESSAGE, DATA = b"J", b"D"
MOST_BYTES = {MESSAGE: 2 << 20, DATA: 1 << 20}
CHUNK_BYTES = 256 << 10
GREETING_S = 10.0
CLOSING_S = 2.0


class WireError(Exception):
    """The other host cannot be talked to, or not any more; a clause that says why."""


class Frame(NamedTuple):
    kind: bytes
    data: bytes


class Wire:
    """One end of a stream. All methods but `close`: WireError."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        kept = writer.get_extra_info("socket")
        if kept is not None and kept.family in (socket.AF_INET, socket.AF_INET6):
            kept.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            kept.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in (
                (socket.TCP_KEEPIDLE, 10),
                (socket.TCP_KEEPINTVL, 5),
                (socket.TCP_KEEPCNT, 3),
                (socket.TCP_USER_TIMEOUT, 60_000),  # for what is sent and not acknowledged
            ):
                kept.setsockopt(socket.IPPROTO_TCP, option, value)

    async def greet(self, seconds: float = GREETING_S) -> None:
        """Both do so first, within so many seconds."""
        await self._write(GREETING.pack(MAGIC, VERSION))
        magic, version = GREETING.unpack(await self._read(GREETING.size, seconds))
        if magic != MAGIC:
            raise WireError("nothing of Xenion's listens there")
        if version != VERSION:
            raise WireError(
                f"its Xenion speaks version {version} of the protocol, and this one version {VERSION}"
            )

    async def send(self, kind: bytes, data: bytes) -> None:
        if len(data) > MOST_BYTES[kind]:
            raise WireError("what is to be said is too large")
        await self._write(HEADER.pack(kind, len(data), zlib.crc32(data)), data)

    async def receive(self, seconds: float | None = None) -> Frame:
        """The next one, within so many seconds."""
        kind, size, checksum = HEADER.unpack(await self._read(HEADER.size, seconds))
        if size > MOST_BYTES.get(kind, -1):
            raise WireError("what it says makes no sense")
        data = await self._read(size, seconds)
        if zlib.crc32(data) != checksum:
            raise WireError("what it says was altered on its way")
        return Frame(kind, data)

    async def close(self) -> None:
        self._writer.close()
        try:
            await asyncio.wait_for(self._writer.wait_closed(), CLOSING_S)
        except TimeoutError:
            self._writer.transport.abort()
        except OSError:
            return

    async def _write(self, *parts: bytes) -> None:
        try:
            self._writer.writelines(parts)
            await self._writer.drain()
        except (OSError, ssl.SSLError) as error:
            raise _broken(error) from error

    async def _read(self, size: int, seconds: float | None) -> bytes:
        try:
            async with asyncio.timeout(seconds):  # wait_for may lose who cancels it
                return await self._reader.readexactly(size)
        except asyncio.IncompleteReadError as error:
            raise WireError("the connection has been closed") from error
        except TimeoutError as error:
            raise WireError("it does not answer") from error
        except (OSError, ssl.SSLError) as error:
            raise _broken(error) from error


def _broken(error: Exception) -> WireError:
    return WireError(f"the connection is broken ({getattr(error, 'strerror', None) or error})")
