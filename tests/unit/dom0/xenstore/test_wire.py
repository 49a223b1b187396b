"""Messages and their parser: the same messages however the stream is cut, and one documented error."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenion.abi.io.xs_wire import XENSTORE_PAYLOAD_MAX, XsdSockmsgType
from xenion.dom0.xenstore.wire import HEADER, Message, MessageParser, WireError, encode

u32 = st.integers(0, 0xFFFF_FFFF)
messages = st.builds(Message, u32, u32, u32, st.binary(max_size=300))


def parse(parser: MessageParser, data: bytes) -> list[Message]:
    parser.push(data)
    return list(iter(parser.take, None))


def test_a_message_is_header_then_payload() -> None:
    message = Message(XsdSockmsgType.READ, 7, 3, b"name\0")
    assert encode(message) == bytes.fromhex("02000000 07000000 03000000 05000000") + b"name\0"


def test_the_longest_payload_passes_and_one_byte_more_does_not() -> None:
    longest = Message(2, 0, 0, b"x" * XENSTORE_PAYLOAD_MAX)
    assert parse(MessageParser(), encode(longest)) == [longest]
    with pytest.raises(WireError, match="4097"):
        encode(Message(2, 0, 0, b"x" * (XENSTORE_PAYLOAD_MAX + 1)))
    with pytest.raises(WireError, match="4097"):
        parse(MessageParser(), HEADER.pack(2, 0, 0, XENSTORE_PAYLOAD_MAX + 1))


def test_a_message_that_never_ends_yields_nothing() -> None:
    parser = MessageParser()
    assert parse(parser, encode(Message(2, 0, 0, b"name\0"))[:-1]) == []
    assert len(parser.pending) == 20
    parser.clear()
    assert parser.pending == b""


@given(st.lists(messages, max_size=6), st.lists(st.integers(0, 2000), max_size=20))
def test_any_split_gives_the_same_messages(sent: list[Message], cuts: list[int]) -> None:
    stream = b"".join(map(encode, sent))
    parser = MessageParser()
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    received: list[Message] = []
    for start, end in pairwise(edges):
        received += parse(parser, stream[start:end])
    assert received == sent
    assert parser.pending == b""


@given(st.lists(messages, min_size=1, max_size=3))
def test_byte_by_byte_gives_the_same_messages(sent: list[Message]) -> None:
    parser = MessageParser()
    received = [message for byte in b"".join(map(encode, sent)) for message in parse(parser, bytes([byte]))]
    assert received == sent


@given(st.lists(st.binary(max_size=200), max_size=10))
def test_random_bytes_give_messages_or_the_documented_error(chunks: list[bytes]) -> None:
    parser = MessageParser()
    try:
        for chunk in chunks:
            for message in parse(parser, chunk):
                assert len(message.payload) <= XENSTORE_PAYLOAD_MAX
    except WireError:
        return
    assert len(parser.pending) < HEADER.size + XENSTORE_PAYLOAD_MAX
