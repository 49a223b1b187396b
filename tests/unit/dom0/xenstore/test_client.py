"""Requests of the back ends: in order, answered once, whatever becomes of the store meanwhile."""

import socket

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.dom0.xenstore.replaceable import DOMID, Client
from xenion.abi.errno import Errno
from xenion.abi.io.xs_wire import XsdSockmsgType
from xenion.dom0.loop import Loop
from xenion.dom0.xenstore.client import COMPLAINTS, StoreClient
from xenion.dom0.xenstore.perms import Perm
from xenion.dom0.xenstore.wire import Message, MessageParser, encode

HOME = f"/local/domain/{DOMID}"


def test_requests_are_answered_in_order(bench: Client) -> None:
    client = bench.client
    client.write(f"{HOME}/a", "grüße", bench.answer)
    client.read(f"{HOME}/a", bench.answer)
    client.mkdir(f"{HOME}/b", bench.answer)
    client.directory(HOME, bench.answer)
    client.set_perms(f"{HOME}/a", (Perm(DOMID, 0), Perm(0, 1)), bench.answer)
    client.remove(f"{HOME}/b", bench.answer)
    client.settle(lambda: bench.answers.append("settled"))
    ok = b"OK\0"
    assert bench.said() == [ok, "grüße".encode(), ok, b"a\0b\0", ok, ok, "settled"]
    assert bench.store.store.get_perms(bench.store.dom0, f"{HOME}/a") == (Perm(DOMID, 0), Perm(0, 1))


def test_refusals_are_answers(bench: Client) -> None:
    client = bench.client
    client.read(f"{HOME}/none", bench.answer)
    client.write("/tool/none", "", bench.answer)
    client.read("not a path", bench.answer)
    assert bench.said() == [Errno.ENOENT, Errno.EACCES, Errno.EINVAL]


def test_refusals_that_nobody_waits_for_are_told_some_times(bench: Client) -> None:
    told: list[str] = []
    client = bench.client
    client.on_refused = told.append
    client.write(f"{HOME}/a", "1")
    client.remove(f"{HOME}/none/of/these")
    client.set_perms(f"{HOME}/none", (Perm(0, 0),))
    client.mkdir("/tool/none")
    for _ in range(2 * COMPLAINTS):
        client.write("/tool/none", "")
    client.settle(lambda: bench.answers.append("settled"))
    assert bench.said() == ["settled"]
    assert told == ["xenstored does not change /tool/none: EACCES"] * COMPLAINTS


def test_what_is_too_long_for_any_message_is_refused_and_the_rest_goes_on(bench: Client) -> None:
    bench.client.write(f"{HOME}/long", "x" * 4096, bench.answer)
    bench.client.write(f"{HOME}/short", "x", bench.answer)
    assert sorted(map(str, bench.said())) == sorted(map(str, [Errno.E2BIG, b"OK\0"]))
    assert bench.store.value(f"{HOME}/long") is None


def test_requests_wait_for_the_first_connection() -> None:
    bench = Client()
    bench.client.write(f"{HOME}/a", "1", bench.answer)
    bench.client.read(f"{HOME}/a", bench.answer)
    assert bench.said() == []
    bench.store.connect()
    assert bench.said() == [b"OK\0", b"1"]
    bench.close()


# --- watches


def test_a_watch_fires_at_once_and_at_each_change_until_it_is_taken_back(bench: Client) -> None:
    changes: list[str] = []
    token = bench.client.watch(f"{HOME}/a", changes.append)
    bench.said()
    assert changes == [f"{HOME}/a"]
    bench.store.store.write(bench.store.dom0, f"{HOME}/a/b", b"")
    bench.said()
    assert changes == [f"{HOME}/a", f"{HOME}/a/b"]
    bench.client.unwatch(f"{HOME}/a", token)
    bench.store.store.write(bench.store.dom0, f"{HOME}/a/b", b"")
    bench.said()
    assert len(changes) == 2
    assert bench.store.store.domains[DOMID].process.watches == {}


def test_two_watches_of_one_path_are_two(bench: Client) -> None:
    first: list[str] = []
    second: list[str] = []
    token = bench.client.watch(HOME, first.append)
    bench.client.watch(HOME, second.append)
    bench.client.unwatch(HOME, token)
    bench.said()
    before = len(second)
    bench.store.store.write(bench.store.dom0, f"{HOME}/x", b"")
    bench.said()
    assert len(second) == before + 1


def test_watches_outlive_the_store(bench: Client) -> None:
    changes: list[str] = []
    bench.client.watch(f"{HOME}/a", changes.append)
    bench.said()
    bench.store.cut()
    bench.store.store.write(bench.store.dom0, f"{HOME}/a", b"")
    changes.clear()
    bench.store.connect()
    bench.said()
    assert changes[0] == f"{HOME}/a", "what changed while it was away has to be looked at"


def test_a_reset_is_of_all_watches_an_earlier_process_has_set_too(bench: Client) -> None:
    changes: list[str] = []
    bench.client.watch(HOME, changes.append)
    bench.said()
    bench.client = StoreClient(bench.loop)
    bench.store.connect()
    bench.client.reset()
    bench.said()
    assert bench.store.store.domains[DOMID].process.watches == {}


def test_a_watch_may_ask_for_more(bench: Client) -> None:
    """What is called may ask, watch and take back."""

    def changed(path: str) -> None:
        bench.client.read(path, bench.answer)
        bench.client.unwatch(HOME, token)

    token = bench.client.watch(HOME, changed)
    assert bench.said() == [Errno.ENOENT]
    assert bench.store.store.domains[DOMID].process.watches == {}


# --- the store goes and comes


Script = list[tuple[int, int, bool]]


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 120), st.integers(0, 120), st.booleans()), max_size=25),
    st.integers(1, 12),
)
def test_each_request_is_answered_once_and_in_order_however_often_the_store_dies(
    script: Script, writes: int
) -> None:
    """Each step moves some bytes to the store and from it, and cuts the cable or does not."""
    bench = Client()
    asked: list[str] = []

    def ask(number: int) -> None:
        for kind in ("write", "read", "watch"):
            asked.append(f"{kind} {number}")
        bench.client.write(f"{HOME}/n{number}", str(number), bench.note(f"write {number}"))
        bench.client.read(f"{HOME}/n{number}", bench.note(f"read {number}"))
        bench.client._ask(
            XsdSockmsgType.WATCH, f"{HOME}\0t{number}\0".encode(), bench.note(f"watch {number}")
        )

    bench.store.connect()
    for number in range(writes):
        ask(number)
        if number < len(script):
            up, down, cut = script[number]
            bench.store.move(up, down)
            if cut:
                bench.store.cut()
                bench.store.connect()
    for up, down, cut in script[writes:]:
        bench.store.move(up, down)
        if cut:
            bench.store.connect()
    bench.store.connect()
    assert bench.said() == asked
    assert all(bench.store.value(f"{HOME}/n{number}") == b"%d" % number for number in range(writes))
    assert len(bench.client._unanswered) == 0
    bench.close()


def test_a_connection_that_is_dead_already_is_no_harm(bench: Client) -> None:
    bench.client.read(f"{HOME}/a", bench.answer)
    bench.client.read(f"{HOME}/a", bench.answer)
    stream, peer = socket.socketpair()
    peer.close()
    bench.client.connect(stream)
    bench.store.connect()
    assert bench.said() == [Errno.ENOENT, Errno.ENOENT]


# --- trees


def tree(bench: Client, *, depth: int = 2, most: int = 1000) -> dict[str, str]:
    found: list[dict[str, str]] = []
    bench.client.read_all(f"{HOME}/device", depth, most, found.append)
    bench.said()
    assert len(found) == 1
    return found[0]


def test_a_tree_by_relative_paths_and_no_deeper_than_asked(bench: Client) -> None:
    nodes = {"state": b"1", "queue-0": b"", "queue-0/ring-ref": b"8", "queue-0/deep/down": b"9"}
    for path, value in nodes.items():
        bench.store.store.write(bench.store.dom0, f"{HOME}/device/{path}", value)
    expected = {"state": "1", "queue-0": "", "queue-0/ring-ref": "8", "queue-0/deep": ""}
    assert tree(bench) == expected
    assert set(tree(bench, depth=1)) == {"state", "queue-0"}
    assert len(tree(bench, most=2)) == 2


def test_no_tree_is_an_empty_one(bench: Client) -> None:
    assert tree(bench) == {}


def test_values_may_be_any_bytes(bench: Client) -> None:
    bench.store.store.write(bench.store.dom0, f"{HOME}/device/a", bytes(range(256)))
    assert tree(bench) == {"a": bytes(range(256)).decode("latin-1")}


def test_a_directory_too_large_for_a_message_is_read_as_none(bench: Client) -> None:
    for number in range(500):
        bench.store.store.write(bench.store.dom0, f"{HOME}/device/name-{number}", b"")
    assert tree(bench) == {}


def test_a_tree_that_shifts_all_the_time_is_read_to_an_end() -> None:
    """A guest that shows many names and has none of them when they are read keeps nobody at it for ever."""
    loop = Loop()
    stream, peer = socket.socketpair()
    peer.setblocking(False)
    client = StoreClient(loop)
    client.connect(stream)
    found: list[dict[str, str]] = []
    client.read_all(HOME, 2, 300, found.append)
    parser, reads = MessageParser(), 0
    names = b"".join(b"n%d\0" % number for number in range(500))
    while not found:
        loop.turn(0)
        try:
            parser.push(peer.recv(1 << 16))
        except BlockingIOError:
            continue
        for request in iter(parser.take, None):
            listing = request.type == XsdSockmsgType.DIRECTORY
            reads += not listing
            kind = request.type if listing else XsdSockmsgType.ERROR
            peer.send(encode(Message(kind, request.req_id, 0, names if listing else b"ENOENT\0")))
    assert found == [{}]
    assert reads == 300
    client.close()
    peer.close()
    loop.close()


# --- bytes and permissions as they are


def test_a_value_may_be_bytes(bench: Client) -> None:
    value = bytes(range(256))
    bench.client.write(f"{HOME}/a", value, bench.answer)
    bench.client.write(f"{HOME}/b", b"x" * 4096, bench.answer)
    bench.client.read(f"{HOME}/a", bench.answer)
    assert sorted(map(str, bench.said())) == sorted(map(str, [Errno.E2BIG, b"OK\0", value]))
    assert bench.store.value(f"{HOME}/a") == value


def test_permissions_are_told_as_they_are_set(bench: Client) -> None:
    client = bench.client
    client.write(f"{HOME}/a", "")
    client.set_perms(f"{HOME}/a", (Perm(DOMID, 0), Perm(0, 1)))
    client.perms(f"{HOME}/a", bench.answer)
    client.perms(f"{HOME}/none", bench.answer)
    told, missing = bench.said()
    assert (told, missing) == (b"n5\0r0\0", Errno.ENOENT)
    assert isinstance(told, bytes)
    client.write(f"{HOME}/b", "")
    client.set_perms(f"{HOME}/b", told.decode(), bench.answer)
    assert bench.said() == [b"OK\0"]
    assert bench.store.store.get_perms(bench.store.dom0, f"{HOME}/b") == (Perm(DOMID, 0), Perm(0, 1))
