"""Requests as a client sends them, replies as it gets them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenion.abi.io.xs_wire import XENSTORE_PAYLOAD_MAX, XSD_ERRORS, XsdSockmsgType
from xenion.dom0.xenstore.check import check
from xenion.dom0.xenstore.connection import Connection
from xenion.dom0.xenstore.perms import parse_perm
from xenion.dom0.xenstore.requests import handle
from xenion.dom0.xenstore.store import Store
from xenion.dom0.xenstore.wire import Message

T = XsdSockmsgType
HOME = "/local/domain/5"
NAMES = {errno.name.encode() + b"\0" for errno in XSD_ERRORS}


class Talk:
    """A store with domain 5, whose `data` is its own."""

    def __init__(self) -> None:
        self.store = Store()
        self.dom0 = Connection(0)
        self.guest = Connection(5)
        self.store.mkdir(self.dom0, HOME)
        self.store.set_perms(self.dom0, HOME, (parse_perm("n0"), parse_perm("r5")))
        self.store.mkdir(self.dom0, f"{HOME}/data")
        self.store.set_perms(self.dom0, f"{HOME}/data", (parse_perm("n5"),))

    def says(self, kind: int, payload: bytes, tx_id: int = 0, *, who: Connection | None = None) -> bytes:
        """Send a request and return its reply's payload, an error's name without its NUL after a `!`."""
        client = who or self.guest
        handle(self.store, client, Message(kind, 77, tx_id, payload))
        while (message := client.take()) is not None:
            if message.type != T.WATCH_EVENT:
                break
        assert message is not None
        assert message[1:3] == (77, tx_id)
        if message.type == T.ERROR:
            return b"!" + message.payload[:-1]
        assert message.type == kind
        return message.payload


@pytest.fixture
def talk() -> Talk:
    return Talk()


def test_a_guest_keeps_data(talk: Talk) -> None:
    assert talk.says(T.WRITE, b"data/a\0val\0ue") == b"OK\0"
    assert talk.says(T.READ, b"data/a\0") == b"val\0ue"
    assert talk.says(T.MKDIR, b"data/b\0") == b"OK\0"
    assert talk.says(T.DIRECTORY, b"data\0") == b"a\0b\0"
    assert talk.says(T.DIRECTORY, b"data/a\0") == b""
    assert talk.says(T.GET_PERMS, b"data/a\0") == b"n5\0"
    assert talk.says(T.SET_PERMS, b"data/a\0r5\0b0\0") == b"OK\0"
    assert talk.says(T.GET_PERMS, b"data/a\0") == b"r5\0b0\0"
    assert talk.says(T.RM, b"data/a\0") == b"OK\0"
    assert talk.says(T.READ, b"data/a\0") == b"!ENOENT"


def test_an_empty_value_is_fine(talk: Talk) -> None:
    assert talk.says(T.WRITE, b"data/a\0") == b"OK\0"
    assert talk.says(T.READ, b"data/a\0") == b""


@pytest.mark.parametrize(
    ("kind", "payload", "error"),
    [
        (T.READ, b"", b"!EINVAL"),
        (T.READ, b"data", b"!EINVAL"),
        (T.READ, b"data\0\0", b"!EINVAL"),
        (T.READ, b"d\xffta\0", b"!EINVAL"),
        (T.READ, b"\0", b"!EINVAL"),
        (T.WRITE, b"data/a", b"!EINVAL"),
        (T.WRITE, b"", b"!EINVAL"),
        (T.WRITE, b"name\0x", b"!EACCES"),
        (T.WATCH, b"data\0", b"!EINVAL"),
        (T.WATCH, b"data\0t\0" + b"x\0", b"!EINVAL"),
        (T.WATCH, b"data\0t\0" + b"0\0" + b"0\0", b"!EINVAL"),
        (T.UNWATCH, b"data\0t\0", b"!ENOENT"),
        (T.SET_PERMS, b"", b"!EINVAL"),
        (T.SET_PERMS, b"data\0", b"!EINVAL"),
        (T.SET_PERMS, b"data\0x5\0", b"!EINVAL"),
        (T.SET_PERMS, b"data\0" + b"r5\0" * 6, b"!ENOSPC"),
        (T.SET_PERMS, b"data\0n6\0", b"!EPERM"),
        (T.TRANSACTION_END, b"T\0", b"!ENOENT"),
        (T.TRANSACTION_END, b"X\0", b"!EINVAL"),
        (T.DIRECTORY_PART, b"data\0", b"!EINVAL"),
        (T.DIRECTORY_PART, b"data\0-1\0", b"!EINVAL"),
        (T.GET_DOMAIN_PATH, b"65536\0", b"!EINVAL"),
        (T.GET_DOMAIN_PATH, b"x\0", b"!EINVAL"),
        (T.WATCH_EVENT, b"data\0t\0", b"!ENOSYS"),
        (T.ERROR, b"EIO\0", b"!ENOSYS"),
        (19 + 1, b"", b"!ENOSYS"),
        (0xFFFF_FFFF, b"", b"!ENOSYS"),
    ],
)
def test_what_is_refused(talk: Talk, kind: int, payload: bytes, error: bytes) -> None:
    assert talk.says(kind, payload) == error


@pytest.mark.parametrize(
    "kind", [T.CONTROL, T.INTRODUCE, T.RELEASE, T.IS_DOMAIN_INTRODUCED, T.RESUME, T.SET_TARGET]
)
def test_control_is_for_dom0(talk: Talk, kind: int) -> None:
    assert talk.says(kind, b"5\0001\0002\0") == b"!EACCES"
    assert talk.says(kind, b"5\0001\0002\0", who=talk.dom0) in (b"!ENOSYS", b"!EINVAL")


def test_domains(talk: Talk) -> None:
    assert talk.says(T.GET_DOMAIN_PATH, b"007\0") == b"/local/domain/7\0"
    talk.store.introduce(5)
    asked = [talk.says(T.IS_DOMAIN_INTRODUCED, b"%d\0" % domid, who=talk.dom0) for domid in (5, 6, 0x7FF0)]
    assert asked == [b"T\0", b"F\0", b"T\0"]


def test_a_new_watch_answers_first_and_fires_then(talk: Talk) -> None:
    handle(talk.store, talk.guest, Message(T.WATCH, 9, 0, b"data\0tok en\0"))
    assert talk.guest.take() == Message(T.WATCH, 9, 0, b"OK\0")
    assert talk.guest.take() == Message(T.WATCH_EVENT, 0, 0, b"data\0tok en\0")
    assert talk.guest.take() is None
    assert talk.says(T.WATCH, b"data\0tok en\0reserved") == b"!EEXIST"
    assert talk.says(T.UNWATCH, b"/local/domain/5/data\0tok en\0reserved") == b"OK\0"


def test_watches_ignore_the_transaction_id_and_nothing_else_does(talk: Talk) -> None:
    assert talk.says(T.WATCH, b"data\0t\0", 99) == b"OK\0"
    assert talk.says(T.UNWATCH, b"data\0t\0", 99) == b"OK\0"
    for kind in (T.READ, T.GET_DOMAIN_PATH, T.RESET_WATCHES, T.TRANSACTION_START, T.TRANSACTION_END):
        assert talk.says(kind, b"T\0", 99) == b"!ENOENT"


def test_reset_watches(talk: Talk) -> None:
    talk.says(T.WATCH, b"data\0t\0")
    tx = int(talk.says(T.TRANSACTION_START, b"\0")[:-1])
    assert talk.says(T.RESET_WATCHES, b"\0") == b"OK\0"
    assert talk.says(T.WATCH, b"data\0t\0") == b"OK\0"
    assert talk.says(T.TRANSACTION_END, b"T\0", tx) == b"!ENOENT"


def test_a_transaction_over_the_wire(talk: Talk) -> None:
    tx = int(talk.says(T.TRANSACTION_START, b"\0")[:-1])
    assert talk.says(T.TRANSACTION_START, b"\0", tx) == b"!EBUSY"
    assert talk.says(T.WRITE, b"data/a\0x", tx) == b"OK\0"
    assert talk.says(T.READ, b"data/a\0") == b"!ENOENT"
    assert talk.says(T.TRANSACTION_END, b"T\0", tx) == b"OK\0"
    assert talk.says(T.READ, b"data/a\0") == b"x"
    for _ in range(10):
        talk.says(T.TRANSACTION_START, b"\0")
    assert talk.says(T.TRANSACTION_START, b"\0") == b"!ENOSPC"


def test_a_long_directory_comes_in_parts(talk: Talk) -> None:
    names = [f"{number:0>40}" for number in range(300)]
    for name in names:
        talk.store.mkdir(talk.dom0, f"/many/{name}")
    assert talk.says(T.DIRECTORY, b"/many\0", who=talk.dom0) == b"!E2BIG"
    listing, generations = b"", set()
    while not listing.endswith(b"\0\0"):
        reply = talk.says(T.DIRECTORY_PART, b"/many\0%d\0" % len(listing), who=talk.dom0)
        assert len(reply) <= XENSTORE_PAYLOAD_MAX
        generation, _, part = reply.partition(b"\0")
        generations.add(generation)
        listing += part
    assert listing[:-1] == "".join(f"{name}\0" for name in names).encode()
    assert len(generations) == 1
    beyond = talk.says(T.DIRECTORY_PART, b"/many\0999999\0", who=talk.dom0)
    assert beyond == generations.pop() + b"\0\0"


payloads = st.one_of(
    st.binary(max_size=60),
    st.lists(
        st.sampled_from([b"data", b"data/a", b"/", b"@x", b"", b"r5", b"n5", b"T", b"1", b"t"]), max_size=4
    ).map(lambda strings: b"".join(string + b"\0" for string in strings)),
)


@given(st.lists(st.tuples(st.integers(0, 24), payloads, st.integers(0, 3)), max_size=30))
def test_any_request_gets_one_reply_that_the_protocol_knows(script: list[tuple[int, bytes, int]]) -> None:
    talk = Talk()
    for kind, payload, tx_id in script:
        handle(talk.store, talk.guest, Message(kind, 1, tx_id, payload))
        messages = list(iter(talk.guest.take, None))
        replies = [message for message in messages if message.type != T.WATCH_EVENT]
        assert len(replies) == 1
        assert replies[0].type == kind or replies[0].payload in NAMES
        assert all(message.payload.count(b"\0") == 2 for message in messages if message.type == T.WATCH_EVENT)


said_to_all = st.one_of(
    payloads,
    st.lists(
        st.sampled_from(
            b"/local/domain/5/data /local/domain/0/backend/vbd/5/0 /vm/five/x /local/domain/6 5 6 @releaseDomain "
            b"@introduceDomain/5 help check quota set nodes watches 3 r0 b6 r32757 \xff".split(b" ")
        )
        | st.just(b"x/" * 200 + b"x"),
        max_size=4,
    ).map(lambda strings: b"".join(string + b"\0" for string in strings)),
)
script = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 26), said_to_all, st.integers(0, 3)), max_size=60
)


@given(script)
def test_whoever_asks_whatever_gets_a_reply_and_the_store_stays_sound(
    asked: list[tuple[int, int, bytes, int]],
) -> None:
    store = Store()
    five, six = store.introduce(5, "five"), store.introduce(6, "six")
    store.write(five.process, HOME + "/data", b"")
    store.set_perms(five.process, HOME + "/data", (parse_perm("n5"),))
    clients = (five.guest, five.process, six.guest, Connection(0))
    for who, kind, payload, tx_id in asked:
        handle(store, clients[who], Message(kind, 1, tx_id, payload))
        messages = list(iter(clients[who].take, None))
        replies = [message for message in messages if message.type != T.WATCH_EVENT]
        assert len(replies) == 1
        assert replies[0].type == kind or replies[0].payload in NAMES
        assert all(len(message.payload) <= XENSTORE_PAYLOAD_MAX for message in messages)
    assert check(store) == []
    for client in clients:
        store.disconnect(client)
    assert store.watch_table._by_path == {}
    assert not any(
        node.children.pins for node in map(store.tree.get, store.tree.paths()) if node and node.children
    )
