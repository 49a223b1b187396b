"""What two xends say: each message comes as it was said, and nothing else does."""

import asyncio
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.xend.kit import run
from xenion.xend.migration import talk
from xenion.xend.migration.talk import (
    Accepted,
    Arrived,
    Commit,
    DiskMark,
    Got,
    Loaded,
    Message,
    Offer,
    Query,
    RefusalError,
    Refused,
    Sent,
    Shown,
    Unknown,
    hear,
    message_of,
    say,
)
from xenion.xend.migration.wire import DATA, MESSAGE, MOST_BYTES, Frame, WireError

MARKS = [DiskMark("xvda", 1 << 50, 1 << 63, 1 << 62), DiskMark("xvdb", None, None, None)]
OFFER = Offer(
    "0a",
    {"name": "gäst", "disks": [{}]},
    1,
    True,
    False,
    True,
    False,
    True,
    MARKS,
    Shown("software", [(1, None, 2, 3, 4, 5)]),
)
MESSAGES: list[Message] = [
    OFFER,
    Accepted(),
    Refused("sorry\n\x1b[2J"),
    Sent(),
    Got(0),
    Got(7),
    Loaded(),
    Commit(MARKS),
    Commit([]),
    Arrived(7),
    Arrived(7, 0.25),
    Query("f" * 64),
    Unknown(),
]


class Line:
    """A wire that gives back what it is given."""

    def __init__(self, *frames: Frame) -> None:
        self.frames = list(frames)
        self.waits: list[float | None] = []

    async def send(self, kind: bytes, data: bytes) -> None:
        self.frames.append(Frame(kind, data))

    async def receive(self, seconds: float | None = None) -> Frame:
        self.waits.append(seconds)
        if not self.frames:
            raise WireError("the connection has been closed")
        return self.frames.pop(0)


def heard(*frames: Frame, kind: Any = Sent, seconds: float | None = 5.0) -> Any:
    async def work() -> Any:
        line: Any = Line(*frames)
        found = await hear(line, kind, seconds)
        assert line.waits == [seconds]
        return found

    return run(work)


@pytest.mark.parametrize("message", MESSAGES)
def test_there_and_back(message: Message) -> None:
    async def work() -> None:
        line: Any = Line()
        await say(line, message)
        (frame,) = line.frames
        assert frame.kind == MESSAGE
        assert message_of(frame) == message
        if isinstance(message, Refused):
            return
        assert await hear(line, type(message)) == message
        assert line.waits == [talk.ANSWER_S]

    run(work)


def test_one_of_several() -> None:
    frame = Frame(MESSAGE, b'{"type":"unknown"}')
    assert heard(frame, kind=(Arrived, Unknown)) == Unknown()


def test_another_than_was_waited_for() -> None:
    for message in MESSAGES:
        if not isinstance(message, Sent | Refused):
            with pytest.raises(WireError, match="makes no sense"):
                heard(Frame(MESSAGE, msgspec.json.encode(message)))


@pytest.mark.parametrize("data", [b"", b'{"type":"sent"}', b"x" * 1000])
def test_data_is_no_message(data: bytes) -> None:
    with pytest.raises(WireError, match="makes no sense"):
        heard(Frame(DATA, data))


@pytest.mark.parametrize(
    ("why", "shown"),
    [("", ""), ("no room", "no room"), ("x" * 1000, "x" * 253 + "..."), ("\u00fc\n", "\u00fc\n")],
)
def test_refusals(why: str, shown: str) -> None:
    with pytest.raises(RefusalError) as caught:
        heard(Frame(MESSAGE, msgspec.json.encode(Refused(why))))
    assert str(caught.value) == shown


def test_a_refusal_is_text_whatever_it_says() -> None:
    """What cannot be said in UTF-8 would break who passes it on."""
    for text in (rb"\ud800", rb"\udc80 x", rb"\u0000", rb"\ud83d\ude00"):
        try:
            heard(Frame(MESSAGE, b'{"type":"refused","why":"' + text + b'"}'))
        except RefusalError as error:
            str(error).encode()
        except WireError as error:
            assert "makes no sense" in str(error)  # noqa: PT017


def offer(**fields: Any) -> bytes:
    return msgspec.json.encode({**msgspec.to_builtins(OFFER), **fields})


@pytest.mark.parametrize(
    "fields",
    [
        {"id": ""},
        {"id": "g"},
        {"id": "A"},
        {"id": "a" * 65},
        {"id": "a\n"},
        {"id": "../a"},
        {"id": 7},
        {"id": None},
        {"domid": 0},
        {"domid": -1},
        {"domid": 0x7FF0},
        {"domid": 1.5},
        {"domid": True},
        {"domid": "1"},
        {"config": []},
        {"config": None},
        {"managed": 1},
        {"paused": None},
        {"check": "yes"},
        {"disks": None},
        {"disks": {}},
        {"disks": [{}]},
        {"disks": [{"vdev": "xvda", "size": "1", "inode": 1, "mtime_ns": 1}]},
        {"disks": [{"vdev": None, "size": 1, "inode": 1, "mtime_ns": 1}]},
        {"disks": [{"vdev": "xvda", "size": 1, "inode": 1, "mtime_ns": 1, "more": 1}]},
        {"type": "offers"},
        {"type": None},
    ],
)
def test_offers_that_are_none(fields: dict[str, Any]) -> None:
    assert message_of(Frame(MESSAGE, offer())) == OFFER
    with pytest.raises(WireError, match="makes no sense"):
        message_of(Frame(MESSAGE, offer(**fields)))


@pytest.mark.parametrize("field", ["id", "config", "domid", "managed", "lasting", "paused", "check", "disks"])
def test_an_offer_without(field: str) -> None:
    values = msgspec.to_builtins(OFFER)
    del values[field]
    with pytest.raises(WireError, match="makes no sense"):
        message_of(Frame(MESSAGE, msgspec.json.encode(values)))


@pytest.mark.parametrize("id_", ["x", "", "a" * 65, "a/../b"])
def test_queries_that_are_none(id_: str) -> None:
    with pytest.raises(WireError, match="makes no sense"):
        message_of(Frame(MESSAGE, msgspec.json.encode({"type": "query", "id": id_})))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"7",
        b"[]",
        b"{}",
        b'"sent"',
        b'{"type":"sent"',
        b'{"type":"sent"}x',
        b"\xff",
        b"\0",
        b'{"type":"\xff"}',
        b'{"type":"arrived"}',
        b'{"type":"arrived","domid":"x"}',
        b'{"type":"arrived","domid":1e400}',
        b'{"type":"arrived","domid":-1}',
        b'{"type":"arrived","domid":32752}',
        b'{"type":"arrived","domid":1,"seconds":-1}',
        b'{"type":"arrived","domid":1,"seconds":1e400}',
        b'{"type":"arrived","domid":1,"seconds":null}',
        b'{"type":"got"}',
        b'{"type":"got","round":-1}',
        b'{"type":"got","round":1.5}',
        b'{"type":"got","round":"1"}',
        b'{"type":"refused"}',
        b'{"type":"commit","disks":[7]}',
        b"[" * MOST_BYTES[MESSAGE],
        b'{"a":' * 100000,
        b'{"type":"offer","config":' + b'{"a":' * 100000,
    ],
)
def test_what_makes_no_sense(data: bytes) -> None:
    with pytest.raises(WireError, match="what it says makes no sense"):
        message_of(Frame(MESSAGE, data))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
NAMES = [
    "type",
    "id",
    "round",
    "seconds",
    "config",
    "domid",
    "managed",
    "disks",
    "why",
    "check",
    "vdev",
    "size",
]
TAGS = ["offer", "accepted", "refused", "sent", "got", "loaded", "commit", "arrived", "query", "unknown"]


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_garbage(data: bytes) -> None:
    nothing_else_than_a_wire_error(data)


@given(st.dictionaries(st.sampled_from(NAMES), JSON | st.sampled_from(TAGS), max_size=8))
@settings(max_examples=300, deadline=None)
def test_garbage_with_the_right_names(values: dict[str, Any]) -> None:
    try:
        data = msgspec.json.encode(values)
    except ValueError:
        return
    nothing_else_than_a_wire_error(data)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_messages_with_a_byte_altered(data: st.DataObject) -> None:
    said = bytearray(msgspec.json.encode(data.draw(st.sampled_from(MESSAGES))))
    said[data.draw(st.integers(0, len(said) - 1))] = data.draw(st.integers(0, 255))
    nothing_else_than_a_wire_error(bytes(said))


def nothing_else_than_a_wire_error(data: bytes) -> None:
    for kind in (Offer, Arrived, Commit, Got, (Arrived, Unknown)):
        try:
            found = heard(Frame(MESSAGE, data), kind=kind)
        except (WireError, RefusalError):
            continue
        assert isinstance(found, kind)


def test_the_end() -> None:
    async def work() -> None:
        line: Any = Line()
        with pytest.raises(WireError, match="closed"):
            await hear(line, Sent)

    asyncio.run(work())
