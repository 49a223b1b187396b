"""A guest that knows itself by another id than the store: what each kind of message says to either."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenion.abi.io.xs_wire import XENSTORE_PAYLOAD_MAX
from xenion.abi.io.xs_wire import XsdSockmsgType as T
from xenion.dom0.xenstore.renumber import Renumbering, renumbered, too_long
from xenion.dom0.xenstore.trees import KeptNode
from xenion.dom0.xenstore.wire import Message

KNOWN, REAL = 5, 1234
SWAP = Renumbering(KNOWN, REAL)
PATHS = [
    (b"/local/domain/5", b"/local/domain/1234"),
    (b"/local/domain/5/data/a", b"/local/domain/1234/data/a"),
    (b"/local/domain/1234/data", b"/local/domain/5/data"),
    (b"/local/domain/0/backend/vbd/5", b"/local/domain/0/backend/vbd/1234"),
    (b"/local/domain/0/backend/vif/5/0/state", b"/local/domain/0/backend/vif/1234/0/state"),
    (b"/local/domain/0/backend/any-kind/1234/5", b"/local/domain/0/backend/any-kind/5/5"),
    (b"@releaseDomain/5", b"@releaseDomain/1234"),
    (b"@introduceDomain/5", b"@introduceDomain/1234"),
]
OTHERS = [
    b"",
    b"/",
    b"data/local/domain/5",
    b"domid",
    b"5",
    b"/local/domain",
    b"/local/domain/50",
    b"/local/domain/05",
    b"/local/domain/6/local/domain/5",
    b"/local/domain/5/",
    b"/local/domain/5//a",
    b"/local/domain/5/a b",
    b"/local/domain/5\n",
    b"/local/domain/5,/local/domain/5",
    b"/local/domain/0/backend/5",
    b"/local/domain/0/backend/vbd/6/5",
    b"/local/domain/0/backend//5",
    b"/local/domain/0/device/vbd/5",
    b"/vm/5",
    b"@releaseDomain",
    b"@other/5",
    b"/local/domain/5/\xff",
]
OF_ONE_PATH = [T.DIRECTORY, T.READ, T.GET_PERMS, T.MKDIR, T.RM]
OF_MORE = [T.DIRECTORY_PART, T.WRITE, T.SET_PERMS, T.WATCH, T.UNWATCH]


def out(kind: int, payload: bytes) -> bytes:
    request = Message(kind, 7, 8, payload)
    sent = SWAP.outward(request)
    assert sent[:3] == request[:3]
    return sent.payload


def back(kind: int, asked: bytes, payload: bytes) -> bytes:
    reply = Message(kind, 7, 8, payload)
    told = SWAP.inward(Message(kind, 7, 8, asked), reply)
    assert told[:3] == reply[:3]
    return told.payload


# --- what the guest asks


@pytest.mark.parametrize("kind", OF_ONE_PATH + OF_MORE)
@pytest.mark.parametrize(("inside", "outside"), PATHS)
def test_a_request_about_a_path(kind: int, inside: bytes, outside: bytes) -> None:
    rest = b"\0" if kind in OF_ONE_PATH else b"\0" + b"5\0"
    assert out(kind, inside + rest) == outside + rest
    assert out(kind, outside + rest) == inside + rest


@pytest.mark.parametrize("kind", OF_ONE_PATH + OF_MORE)
@pytest.mark.parametrize("path", OTHERS)
def test_other_paths_stay(kind: int, path: bytes) -> None:
    assert out(kind, path + b"\0") == path + b"\0"


def test_a_token_is_the_guests_own() -> None:
    assert out(T.WATCH, b"data\0/local/domain/5\x003\0") == b"data\0/local/domain/5\x003\0"


@pytest.mark.parametrize(("inside", "outside"), PATHS)
def test_a_value_that_is_a_path(inside: bytes, outside: bytes) -> None:
    assert out(T.WRITE, b"data/a\0" + inside) == b"data/a\0" + outside
    assert back(T.READ, b"data/a\0", outside) == inside


@pytest.mark.parametrize("value", [*OTHERS, b"/local/domain/5\0", b"5", b"1234", b"at /local/domain/5"])
def test_other_values_stay(value: bytes) -> None:
    assert out(T.WRITE, b"data/a\0" + value) == b"data/a\0" + value
    assert back(T.READ, b"data/a\0", value) == value


def test_permissions() -> None:
    perms = b"data\0n5\0r0\0b1234\0w12\0r05\0r000005\0x5\0r5 \0"
    assert out(T.SET_PERMS, perms) == b"data\0n1234\0r0\0b5\0w12\0r1234\0r000005\0x5\0r5 \0"
    assert back(T.GET_PERMS, b"data\0", b"n1234\0r0\0b5\0") == b"n5\0r0\0b1234\0"


@pytest.mark.parametrize(
    ("asked", "outside", "answer", "told"),
    [
        (b"5\0", b"1234\0", b"/local/domain/1234\0", b"/local/domain/5\0"),
        (b"05\0", b"1234\0", b"/local/domain/1234\0", b"/local/domain/5\0"),
        (b"1234\0", b"5\0", b"/local/domain/5\0", b"/local/domain/1234\0"),
        (b"0\0", b"0\0", b"/local/domain/0\0", b"/local/domain/0\0"),
        (b"6\0", b"6\0", b"/local/domain/6\0", b"/local/domain/6\0"),
    ],
)
def test_the_path_of_a_domain(asked: bytes, outside: bytes, answer: bytes, told: bytes) -> None:
    assert out(T.GET_DOMAIN_PATH, asked) == outside
    assert back(T.GET_DOMAIN_PATH, asked, answer) == told


@pytest.mark.parametrize(
    "path",
    [b"domid", b"/local/domain/5/domid", b"/local/domain/0/backend/vbd/5/51712/frontend-id"],
)
def test_nodes_that_hold_its_id(path: bytes) -> None:
    assert back(T.READ, path + b"\0", b"1234") == b"5"
    assert back(T.READ, path + b"\0", b"12345") == b"12345"


@pytest.mark.parametrize("path", [b"data/domid", b"/local/domain/6/domid", b"/vm/domid", b"frontend-id"])
def test_nodes_that_hold_a_number(path: bytes) -> None:
    assert back(T.READ, path + b"\0", b"1234") == b"1234"


@pytest.mark.parametrize(
    "kind",
    [
        T.CONTROL,
        T.TRANSACTION_START,
        T.TRANSACTION_END,
        T.INTRODUCE,
        T.RELEASE,
        T.IS_DOMAIN_INTRODUCED,
        T.RESUME,
        T.SET_TARGET,
        T.RESET_WATCHES,
        T.GET_FEATURE,
        99,
    ],
)
def test_all_else_passes(kind: int) -> None:
    for payload in (b"5\0", b"/local/domain/5\0", b""):
        assert out(kind, payload) == payload
        assert back(kind, payload, payload) == payload


@pytest.mark.parametrize("kind", [*OF_ONE_PATH, *OF_MORE, T.GET_DOMAIN_PATH])
@pytest.mark.parametrize("payload", [b"", b"5", b"/local/domain/5", b"\0", b"\0/local/domain/6", b"\0\0n7\0"])
def test_what_makes_no_sense_passes(kind: int, payload: bytes) -> None:
    assert out(kind, payload) == payload


def test_a_refusal_passes() -> None:
    error = Message(T.ERROR, 1, 0, b"/local/domain/1234")
    assert SWAP.inward(Message(T.READ, 1, 0, b"domid\0"), error) is error


# --- events


@pytest.mark.parametrize(("inside", "outside"), PATHS)
def test_an_event(inside: bytes, outside: bytes) -> None:
    told = SWAP.event(Message(T.WATCH_EVENT, 0, 0, outside + b"\0/local/domain/1234\0"))
    assert told == Message(T.WATCH_EVENT, 0, 0, inside + b"\0/local/domain/1234\0")


@pytest.mark.parametrize("path", OTHERS)
def test_other_events_pass(path: bytes) -> None:
    event = Message(T.WATCH_EVENT, 0, 0, path + b"\0token\0")
    assert SWAP.event(event) == event


# --- lengths


def test_a_request_may_grow_too_long() -> None:
    payload = b"/local/domain/5/a\0" + b"t" * (XENSTORE_PAYLOAD_MAX - 19) + b"\0"
    assert len(out(T.WATCH, payload)) == XENSTORE_PAYLOAD_MAX + 3
    assert too_long(Message(T.WATCH, 1, 2, payload)) == Message(T.ERROR, 1, 2, b"E2BIG\0")


def test_a_reply_and_an_event_that_grow_too_long() -> None:
    entries = b"n5\0" * (XENSTORE_PAYLOAD_MAX // 3)
    asked = Message(T.GET_PERMS, 1, 2, b"data\0")
    assert SWAP.inward(asked, asked._replace(payload=entries)) == Message(T.ERROR, 1, 2, b"E2BIG\0")
    path = b"/local/domain/5/a\0"
    for room, fits in ((3, True), (2, False)):
        token = b"t" * (XENSTORE_PAYLOAD_MAX - len(path) - room - 1) + b"\0"
        assert (SWAP.event(Message(T.WATCH_EVENT, 0, 0, path + token)) is not None) == fits


# --- whatever it is


PIECES = [
    b"local",
    b"domain",
    b"backend",
    b"0",
    b"5",
    b"1234",
    b"vbd",
    b"a",
    b"",
    b"domid",
    b"@releaseDomain",
]
ANY_PATH = st.lists(st.sampled_from(PIECES), max_size=9).map(b"/".join) | st.binary(max_size=40)
ENTRIES = st.lists(
    st.builds(
        lambda letter, domid: b"%c%d\0" % (letter, domid), st.sampled_from(b"nrwbx"), st.integers(0, 70000)
    )
    | st.sampled_from([b"n5\0", b"r1234\0", b"\0"])
).map(b"".join)
IDS = st.integers(1, 0x7FEF)


@given(ANY_PATH, IDS, IDS)
def test_a_path_there_and_back(path: bytes, known_as: int, domid: int) -> None:
    for swap in (SWAP, Renumbering(known_as, domid)):
        assert swap.path(swap.path(path)) == path
        assert swap.value(b"domid", swap.value(b"domid", path)) == path


@given(ENTRIES)
def test_permissions_there_and_back(entries: bytes) -> None:
    assert SWAP.perms(SWAP.perms(entries)) == entries


@given(st.sampled_from(list(T)), ANY_PATH, st.binary(max_size=40), IDS)
def test_of_one_id_it_is_nothing(kind: int, path: bytes, rest: bytes, domid: int) -> None:
    same = Renumbering(domid, domid)
    message = Message(kind, 1, 2, path + b"\0" + rest)
    assert same.outward(message) == same.inward(message, message) == same.event(message) == message


@given(st.integers(0, 30), ANY_PATH | st.binary(), st.binary())
def test_whatever_is_said_it_can_be_translated(kind: int, payload: bytes, reply: bytes) -> None:
    message = Message(kind, 1, 2, payload)
    SWAP.outward(message)
    SWAP.inward(message, message._replace(payload=reply))
    SWAP.event(message)


# --- a saved domain's nodes


def nodes_of(domid: int, other: int) -> list[KeptNode]:
    """Of the domain, which names another one."""
    home, back_end = f"/local/domain/{domid}", f"/local/domain/0/backend/vbd/{domid}"
    mine = f"n{domid}\0r0\0r{other}\0"
    return [
        KeptNode(home, b"", f"n0\0r{domid}\0"),
        KeptNode("/vm/uuid", b"5", "n0\0"),
        KeptNode(f"{home}/domid", b"%d" % domid, f"n0\0r{domid}\0"),
        KeptNode(f"{home}/device/vbd/51712/backend", f"{back_end}/51712".encode(), mine),
        KeptNode(f"{home}/data/other", b"/local/domain/%d/data" % other, mine),
        KeptNode(f"{home}/data/number", b"5", mine),
        KeptNode(f"{home}/data/text", bytes(range(256)), mine),
        KeptNode(f"{back_end}/51712/frontend", f"{home}/device/vbd/51712".encode(), f"n0\0r{domid}\0"),
        KeptNode(f"{back_end}/51712/frontend-id", b"%d" % domid, f"n0\0r{domid}\0"),
    ]


@pytest.mark.parametrize(
    ("was", "domid"), [(5, 5), (5, 9), (9, 12), (9, 5), (9, 9)], ids=lambda number: str(number)
)
def test_nodes(was: int, domid: int) -> None:
    """The guest, which knows itself as 5, sees no difference: neither of itself nor of another domain."""
    assert renumbered(nodes_of(was, 7), 5, was, domid) == nodes_of(domid, 7)


def test_nodes_that_name_the_one_that_has_its_id() -> None:
    """What the guest says of 9 and 12 is of those that it means, whatever ids it had and has."""
    before = [
        KeptNode(f"/local/domain/9/a{name}", b"/local/domain/%d" % name, f"r{name}\0") for name in (5, 12)
    ]
    assert [(node.value, node.perms) for node in renumbered(before, 5, 9, 12)] == [
        (b"/local/domain/9", "r9\0"),
        (b"/local/domain/5", "r5\0"),
    ]


@given(st.text(st.characters(exclude_categories=["Cs"])), st.binary(max_size=60))
def test_nodes_that_somebody_else_has_written(text: str, value: bytes) -> None:
    node = KeptNode(text, value, text)
    assert renumbered([node], 5, 5, 5) == [node]
    renumbered([node, KeptNode("/local/domain/5/domid", b"9" * 10000, "")], 5, 9, 12)
