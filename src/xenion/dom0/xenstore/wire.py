"""Messages of the xenstore protocol (io/xs_wire.h, docs/misc/xenstore.txt): a header, then a payload."""

import struct
from typing import NamedTuple

from xenion.abi.io.xs_wire import XENSTORE_PAYLOAD_MAX

HEADER = struct.Struct("<IIII")
_HEADER_SIZE = HEADER.size
_unpack_from = HEADER.unpack_from


class WireError(Exception):
    """The byte stream is not the protocol; nothing after this point can be understood."""

    def __init__(self, length: int) -> None:
        super().__init__(
            f"a xenstore message announces a payload of {length} bytes, more than {XENSTORE_PAYLOAD_MAX}; "
            "close the connection, its peer does not speak the protocol"
        )


class Message(NamedTuple):
    """One request, reply or watch event. Numbers are unsigned 32-bit; ``type`` may be no XsdSockmsgType."""

    type: int
    req_id: int
    tx_id: int
    payload: bytes


def encode(message: Message) -> bytes:
    """The message's bytes; WireError for a payload that no peer would take."""
    kind, req_id, tx_id, payload = message
    if len(payload) > XENSTORE_PAYLOAD_MAX:
        raise WireError(len(payload))
    return HEADER.pack(kind, req_id, tx_id, len(payload)) + payload


class MessageParser:
    """Cuts a byte stream into messages. It holds what was pushed and not taken: push little at a time."""

    def __init__(self) -> None:
        self._buffer = b""
        self._at = 0

    @property
    def pending(self) -> bytes:
        """Bytes pushed and not yet returned in a message."""
        return self._buffer[self._at :]

    @property
    def waits(self) -> bool:
        """`take` may have something to return, or to raise."""
        buffer, at = self._buffer, self._at
        left = len(buffer) - at - _HEADER_SIZE
        if left < 0:
            return False
        length = _unpack_from(buffer, at)[3]
        return not left < length <= XENSTORE_PAYLOAD_MAX

    def push(self, data: bytes) -> None:
        """Append bytes of the stream."""
        self._buffer = self._buffer[self._at :] + data if self._at < len(self._buffer) else data
        self._at = 0

    def take(self) -> Message | None:
        """The next complete message, or None until more is pushed. WireError once a length is too big."""
        buffer, at = self._buffer, self._at
        if len(buffer) - at < _HEADER_SIZE:
            return None
        kind, req_id, tx_id, length = _unpack_from(buffer, at)
        if length > XENSTORE_PAYLOAD_MAX:
            raise WireError(length)
        start = at + _HEADER_SIZE
        end = start + length
        if len(buffer) < end:
            return None
        self._at = end
        return Message(kind, req_id, tx_id, buffer[start:end])

    def clear(self) -> None:
        """Forget everything pushed."""
        self._buffer = b""
        self._at = 0
