"""NBD's negotiation (fixed newstyle), by whoever opens the sockets: blocking, with a deadline.

The domain process gets sockets on which this is over, and the NbdInfo.
"""

import socket
import struct
import time
from dataclasses import dataclass

NBD_MAGIC = b"NBDMAGIC"
IHAVEOPT = b"IHAVEOPT"
OLD_STYLE = b"\x00\x00\x42\x02\x81\x86\x12\x53"
REPLY_MAGIC = 0x3E889045565A9

FLAG_FIXED_NEWSTYLE = FLAG_C_FIXED_NEWSTYLE = 1
FLAG_NO_ZEROES = FLAG_C_NO_ZEROES = 2

OPT_EXPORT_NAME = 1
OPT_ABORT = 2
OPT_GO = 7

REP_ACK = 1
REP_INFO = 3
REP_ERROR = 1 << 31
REP_ERR_UNSUP = REP_ERROR + 1
REP_ERR_POLICY = REP_ERROR + 2
REP_ERR_TLS_REQD = REP_ERROR + 5
REP_ERR_UNKNOWN = REP_ERROR + 6
REP_ERR_BLOCK_SIZE_REQD = REP_ERROR + 8

INFO_EXPORT = 0
INFO_BLOCK_SIZE = 3

FLAG_HAS_FLAGS = 1 << 0
FLAG_READ_ONLY = 1 << 1
FLAG_SEND_FLUSH = 1 << 2
FLAG_SEND_FUA = 1 << 3
FLAG_SEND_TRIM = 1 << 5
FLAG_CAN_MULTI_CONN = 1 << 8

MAX_NAME_BYTES = 4096
MAX_REPLY_BYTES = 1 << 16
MAX_REPLIES = 64
DEFAULT_MAX_BLOCK = 32 << 20
LEAST_MAX_BLOCK = 4096
TIMEOUT_S = 10.0

_OPTION_REPLY = struct.Struct(">QIII")


class NbdError(Exception):
    """An NBD server cannot be used; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NbdInfo:
    """What the server says of its export; in bytes. `NbdInfo(**mapping)` and `dataclasses.asdict` carry it as JSON."""

    size: int
    flags: int
    min_block: int = 1
    preferred_block: int = 4096
    max_block: int = DEFAULT_MAX_BLOCK

    @property
    def multi_conn(self) -> bool:
        """A flush on one connection covers what was written on another."""
        return bool(self.flags & FLAG_CAN_MULTI_CONN)

    @property
    def read_only(self) -> bool:
        return bool(self.flags & FLAG_READ_ONLY)


def negotiate(sock: socket.socket, export_name: str, *, timeout_s: float = TIMEOUT_S) -> NbdInfo:
    """Afterwards `sock` is in NBD's transmission phase. NbdError; the caller closes `sock` then."""
    try:
        return _Handshake(sock, export_name, time.monotonic() + timeout_s).run()
    except TimeoutError as error:
        raise NbdError(f"the NBD server does not answer within {timeout_s:g} seconds") from error
    except OSError as error:
        raise NbdError(f"the NBD server cannot be reached: {error.strerror or error}") from error


class _Handshake:
    def __init__(self, sock: socket.socket, export_name: str, deadline: float) -> None:
        self._sock = sock
        self._export = export_name
        self._name = export_name.encode()
        self._deadline = deadline

    def run(self) -> NbdInfo:
        if len(self._name) > MAX_NAME_BYTES:
            raise NbdError(f"the NBD export's name is longer than {MAX_NAME_BYTES} bytes")
        previous = self._sock.gettimeout()
        try:
            zeroes = self._greet()
            info = self._go()
            return _checked(info if info is not None else self._by_name(zeroes))
        finally:
            self._sock.settimeout(previous)

    def _greet(self) -> bool:
        """Whether the server pads its answer to OPT_EXPORT_NAME."""
        greeting = self._receive(16)
        if greeting == NBD_MAGIC + OLD_STYLE:
            raise NbdError("the NBD server speaks the protocol's old style only: use a newer server")
        if greeting != NBD_MAGIC + IHAVEOPT:
            raise NbdError("what listens there is no NBD server")
        (flags,) = struct.unpack(">H", self._receive(2))
        if not flags & FLAG_FIXED_NEWSTYLE:
            raise NbdError("the NBD server does not speak the fixed newstyle: use a newer server")
        no_zeroes = flags & FLAG_NO_ZEROES
        self._send(struct.pack(">I", FLAG_C_FIXED_NEWSTYLE | (FLAG_C_NO_ZEROES if no_zeroes else 0)))
        return not no_zeroes

    def _go(self) -> NbdInfo | None:
        """None if the server does not know OPT_GO."""
        wanted = struct.pack(">HH", 1, INFO_BLOCK_SIZE)
        self._send_option(OPT_GO, struct.pack(">I", len(self._name)) + self._name + wanted)
        found: dict[str, int] = {}
        for _ in range(MAX_REPLIES):
            kind, data = self._reply(OPT_GO)
            if kind == REP_ACK:
                if "size" not in found:
                    raise NbdError("the NBD server does not say how large its export is")
                return NbdInfo(**found)
            if kind == REP_ERR_UNSUP:
                return None
            if kind == REP_INFO:
                found |= _read_info(data)
            else:
                raise NbdError(self._refusal(kind, data))
        raise NbdError("the NBD server tells more of its export than anybody asked for")

    def _by_name(self, zeroes: bool) -> NbdInfo:
        self._send_option(OPT_EXPORT_NAME, self._name)
        size, flags = struct.unpack(
            ">QH", self._receive(10, f'the NBD server has no export "{self._export}"')
        )
        if zeroes:
            self._receive(124)
        return NbdInfo(size=size, flags=flags)

    def _refusal(self, kind: int, data: bytes) -> str:
        if kind == REP_ERR_UNKNOWN:
            return f'the NBD server has no export "{self._export}"'
        if kind == REP_ERR_TLS_REQD:
            return "the NBD server insists on TLS, which is not supported: use a Unix socket or a tunnel"
        if kind == REP_ERR_POLICY:
            return f'the NBD server does not let us use the export "{self._export}"'
        said = "".join(c for c in data[:200].decode(errors="replace") if c.isprintable())
        return f'the NBD server refuses the export "{self._export}" (reply {kind:#x}) {said}'.rstrip()

    def _reply(self, option: int) -> tuple[int, bytes]:
        magic, answered, kind, length = _OPTION_REPLY.unpack(self._receive(_OPTION_REPLY.size))
        if magic != REPLY_MAGIC or answered != option or length > MAX_REPLY_BYTES:
            raise NbdError("the NBD server answers what the protocol does not allow")
        return kind, self._receive(length)

    def _send_option(self, option: int, data: bytes) -> None:
        self._send(IHAVEOPT + struct.pack(">II", option, len(data)) + data)

    def _send(self, data: bytes) -> None:
        self._set_timeout()
        self._sock.sendall(data)

    def _receive(
        self, count: int, ended: str = "the NBD server hung up while its export was asked for"
    ) -> bytes:
        data = bytearray()
        while len(data) < count:
            self._set_timeout()
            more = self._sock.recv(count - len(data))
            if not more:
                raise NbdError(ended)
            data += more
        return bytes(data)

    def _set_timeout(self) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._sock.settimeout(left)


def _read_info(data: bytes) -> dict[str, int]:
    if len(data) < 2:
        raise NbdError("the NBD server answers what the protocol does not allow")
    (kind,) = struct.unpack_from(">H", data)
    try:
        if kind == INFO_EXPORT:
            size, flags = struct.unpack(">QH", data[2:])
            return {"size": size, "flags": flags}
        if kind == INFO_BLOCK_SIZE:
            least, preferred, most = struct.unpack(">III", data[2:])
            return {"min_block": least, "preferred_block": preferred, "max_block": most}
    except struct.error as error:
        raise NbdError("the NBD server answers what the protocol does not allow") from error
    return {}


def _checked(info: NbdInfo) -> NbdInfo:
    least, most = info.min_block, info.max_block
    if not info.flags & FLAG_HAS_FLAGS or info.size >= 1 << 63:
        raise NbdError("the NBD server describes its export in a way that the protocol does not allow")
    if least < 1 or least & (least - 1) or most < max(least, LEAST_MAX_BLOCK):
        raise NbdError(
            f"the NBD server asks for blocks of {least} to {most} bytes, which the protocol does not allow"
        )
    return info
