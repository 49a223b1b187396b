"""Clients of a server: who they are, what they may, and what hostile ones can do to the others."""

import socket
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.dom0.xenstore.stores import contents
from tests.unit.dom0.xenstore.talking import Peer, T
from xenion.dom0.loop import Loop
from xenion.dom0.xenstore.errors import StoreError
from xenion.dom0.xenstore.server import NoKeeper, XenstoreServer
from xenion.dom0.xenstore.wire import HEADER, Message, encode

UUID = "6c2e0e6e-0b60-4f0d-9f0e-7b1e4d2c3a10"
HOME = b"/local/domain/5"
BACKEND = b"/local/domain/0/backend/vbd/5"


class Host:
    """A server with domain 5, whose process has made it a home with `data` of its own; and a client of domain 0."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.kept = Kept()
        self.server = XenstoreServer(self.loop, keeper=self.kept)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind("")  # an abstract name of the kernel's choice
        self.server.listen(self.listener)
        self.peers: list[Peer] = []
        self.dom0 = self.connect()
        self.guest, self.process = self.introduce(5, UUID)
        for kind, payload in (
            (T.MKDIR, HOME + b"\0"),
            (T.SET_PERMS, HOME + b"\0n0\0r5\0"),
            (T.MKDIR, HOME + b"/data\0"),
            (T.SET_PERMS, HOME + b"/data\0n5\0"),
        ):
            assert self.process.says(kind, payload) == b"OK\0"

    def connect(self) -> Peer:
        stream = socket.socket(socket.AF_UNIX)
        stream.connect(self.listener.getsockname())
        self.peers.append(Peer(self.loop, stream))
        return self.peers[-1]

    def introduce(self, domid: int, uuid: str) -> tuple[Peer, Peer]:
        (guest, their_guest), (process, their_process) = socket.socketpair(), socket.socketpair()
        self.peers += (Peer(self.loop, guest), Peer(self.loop, process))
        self.server.introduce(domid, uuid, their_guest, their_process)
        return self.peers[-2], self.peers[-1]

    def close(self) -> None:
        self.server.close()
        for peer in self.peers:
            peer.close()
        self.loop.close()


class Kept(NoKeeper):
    """Counts what is told after how many commits."""

    commits = 0

    def commit(self) -> None:
        self.commits += 1


@pytest.fixture
def host() -> Iterator[Host]:
    made = Host()
    yield made
    made.close()


# Who is who


def test_each_is_who_its_socket_says(host: Host) -> None:
    assert host.guest.says(T.WRITE, b"data/a\0x") == b"OK\0"
    assert host.guest.says(T.GET_PERMS, b"data/a\0") == b"n5\0"
    assert host.process.says(T.WRITE, BACKEND + b"/51712/state\0001") == b"OK\0"
    assert host.dom0.says(T.GET_PERMS, BACKEND + b"/51712/state\0") == b"n0\0"
    assert host.guest.says(T.WRITE, b"name\0x") == b"!EACCES"
    assert host.dom0.says(T.IS_DOMAIN_INTRODUCED, b"5\0") == b"T\0"


def test_a_domains_process_keeps_to_its_domain(host: Host) -> None:
    says = host.process.says
    host.dom0.says(T.WRITE, b"/local/domain/6/data\0secret")
    for path in (b"/", b"/local/domain/6/data", b"/vm", b"/tool", b"/local/domain/0/backend/vbd/6/x"):
        for kind in (T.READ, T.DIRECTORY, T.GET_PERMS, T.RM, T.MKDIR):
            assert says(kind, path + b"\0") == b"!EACCES"
        assert says(T.WRITE, path + b"\0x") == b"!EACCES"
        assert says(T.SET_PERMS, path + b"\0n5\0") == b"!EACCES"
        assert says(T.WATCH, path + b"\0t\0") == b"!EACCES"
    tx = int(says(T.TRANSACTION_START, b"\0")[:-1])
    assert says(T.READ, b"/local/domain/6/data\0", tx) == b"!EACCES"
    assert says(T.READ, b"/tool/xenstored\0") == b""
    for path in (b"/local/domain/0/backend", b"/local/domain/0/backend/vif"):
        assert says(T.MKDIR, path + b"\0") == b"OK\0"
        assert says(T.WRITE, path + b"\0x") == b"!EACCES"
    assert says(T.WATCH, b"@releaseDomain\0t\0") == b"!EACCES"
    assert says(T.SET_PERMS, b"@releaseDomain\0n0\0r5\0") == b"!EACCES"
    assert says(T.SET_PERMS, HOME + b"/data/x\0n6\0") == b"!ENOENT"
    assert says(T.WRITE, f"/vm/{UUID}/name\0x".encode()) == b"OK\0"
    assert says(T.SET_PERMS, f"/vm/{UUID}/name\0n5\0b6\0".encode()) == b"OK\0"
    assert says(T.SET_PERMS, f"/vm/{UUID}/name\0n0\0b6\0".encode()) == b"OK\0"
    assert says(T.SET_PERMS, f"/vm/{UUID}/name\0n6\0b5\0".encode()) == b"!EPERM", (
        "it would count as another's"
    )


@pytest.mark.parametrize(
    "kind",
    [T.CONTROL, T.INTRODUCE, T.RELEASE, T.RESUME, T.SET_TARGET, T.SET_FEATURE, T.GET_QUOTA, T.SET_QUOTA],
)
def test_a_domain_controls_nothing(host: Host, kind: int) -> None:
    for peer in (host.guest, host.process):
        assert peer.says(kind, b"5\0001\0001\0") == b"!EACCES"


def test_a_domains_process_makes_a_bounded_number_of_nodes(host: Host) -> None:
    domain = host.server.store.domains[5]
    domain.process.quota = replace(domain.process.quota, nodes=50)
    made = 0
    while host.process.says(T.WRITE, HOME + b"/more/%d\0" % made) == b"OK\0":
        made += 1
        assert made < 50
    assert host.server.store.tree.made_for(("5",)) == 50
    assert host.guest.says(T.WRITE, b"data/of/the/guest\0") == b"OK\0"
    tx = int(host.process.says(T.TRANSACTION_START, b"\0")[:-1])
    assert host.process.says(T.WRITE, HOME + b"/one\0", tx) == b"!ENOSPC"
    for number in range(6):
        assert host.process.says(T.RM, HOME + b"/more/%d\0" % number, tx) == b"OK\0"
    assert host.process.says(T.WRITE, HOME + b"/one/two\0", tx) == b"OK\0"
    assert host.process.says(T.TRANSACTION_END, b"T\0", tx) == b"OK\0"
    assert host.process.says(T.WRITE, f"/vm/{UUID}/name\0".encode()) == b"!ENOSPC"


def test_kinds_of_back_ends_are_a_bounded_number(host: Host) -> None:
    made = 0
    while host.process.says(T.WRITE, b"/local/domain/0/backend/k%d/5\0" % made) == b"OK\0":
        made += 1
        assert made <= 64
    assert host.process.says(T.WRITE, b"/local/domain/0/backend/k0/5/0/state\0001") == b"OK\0"
    assert host.process.says(T.MKDIR, b"/local/domain/0/backend/new\0") == b"!ENOSPC"


# Introducing and releasing


def test_a_known_domain_gets_other_sockets_and_keeps_its_watches(host: Host) -> None:
    host.guest.says(T.WATCH, b"data\0relative\0")
    host.process.says(T.WATCH, BACKEND + b"\0back\0")
    tx = int(host.guest.says(T.TRANSACTION_START, b"\0")[:-1])
    host.dom0.says(T.WRITE, HOME + b"/data/x/y\0new")
    host.dom0.says(T.WRITE, b"/elsewhere\0new")
    old = host.guest
    guest, process = host.introduce(5, UUID)
    assert old.cut_off
    assert guest.told() == [("data", "relative"), ("data/x/y", "relative")]
    assert guest.says(T.TRANSACTION_END, b"T\0", tx) == b"!ENOENT"
    assert process.told() == [(BACKEND.decode(), "back")]
    guest, _ = host.introduce(5, UUID)
    assert guest.told() == [("data", "relative"), ("data/x/y", "relative")]
    host.dom0.says(T.WRITE, HOME + b"/data/x\0again")
    assert guest.told() == [("data/x", "relative")]
    assert guest.says(T.UNWATCH, b"data\0relative\0") == b"OK\0"


def test_a_watch_is_not_told_again_of_what_its_client_may_not_read(host: Host) -> None:
    host.guest.says(T.WATCH, b"/\0all\0")
    host.dom0.says(T.WRITE, b"/secret\0x")
    guest, _ = host.introduce(5, UUID)
    told = guest.told()
    assert ("/", "all") in told
    assert ("/secret", "all") not in told
    assert ("/local/domain/5/data", "all") in told


def test_a_domain_without_sockets_stays_known(host: Host) -> None:
    host.guest.says(T.WATCH, b"data\0t\0")
    host.guest.close()
    host.process.close()
    host.dom0.says(T.WRITE, HOME + b"/data/x\0")
    assert host.dom0.says(T.IS_DOMAIN_INTRODUCED, b"5\0") == b"T\0"
    domain = host.server.store.domains[5]
    assert not domain.guest.connected
    assert domain.guest.waiting == 0
    guest, _ = host.introduce(5, UUID)
    assert set(guest.told()) >= {("data", "t"), ("data/x", "t")}


def test_a_released_domain_leaves_nothing(host: Host) -> None:
    before = host.connect()
    before.says(T.WATCH, b"@releaseDomain\0any\0")
    before.says(T.WATCH, b"@releaseDomain/5\0five\0")
    before.says(T.WATCH, b"@releaseDomain\0which\0001\0")
    before.says(T.WATCH, BACKEND + b"\0back\0")
    host.process.says(T.WRITE, BACKEND + b"/51712/state\0004")
    host.process.says(T.WRITE, f"/vm/{UUID}/name\0x".encode())
    host.guest.says(T.WATCH, b"data\0t\0")
    host.dom0.says(T.WRITE, b"/shared\0")
    host.dom0.says(T.SET_PERMS, b"/shared\0n0\0r5\0r6\0")
    host.dom0.says(T.WRITE, b"/theirs\0")
    host.dom0.says(T.SET_PERMS, b"/theirs\0n5\0")
    before.told()
    host.server.release(5)
    assert host.guest.cut_off
    assert host.process.cut_off
    assert sorted(before.told()) == [
        ("/local/domain/0/backend/vbd/5", "back"),
        ("@releaseDomain", "any"),
        ("@releaseDomain/5", "five"),
        ("@releaseDomain/5", "which"),
    ]
    assert host.dom0.says(T.IS_DOMAIN_INTRODUCED, b"5\0") == b"F\0"
    assert host.dom0.says(T.GET_PERMS, b"/shared\0") == b"n0\0r6\0"
    left = set(contents(host.server.store)["nodes"])
    assert left == {
        "/",
        "/tool",
        "/tool/xenstored",
        "/local",
        "/local/domain",
        "/local/domain/0",
        "/local/domain/0/backend",
        "/vm",
        "/shared",
    }
    host.server.release(5)
    guest, process = host.introduce(5, "another")
    assert guest.says(T.READ, b"data/x\0") == b"!EACCES"
    assert process.says(T.WRITE, b"/vm/another/name\0") == b"OK\0"


def test_what_cannot_be_introduced(host: Host) -> None:
    for domid, uuid in (
        (0, "x"),
        (0x7FF0, "x"),
        (-1, "x"),
        (6, ""),
        (6, "a/b"),
        (6, "x" * 257),
        (5, "another"),
        (6, UUID),
    ):
        with pytest.raises(StoreError, match="EINVAL"):
            host.introduce(domid, uuid)
        assert host.peers[-1].cut_off
        assert host.peers[-2].cut_off
    assert host.guest.says(T.WRITE, b"data/a\0x") == b"OK\0"


# Answers come after what they tell is kept


def test_nothing_is_told_before_it_is_kept(host: Host) -> None:
    host.dom0.says(T.WATCH, HOME + b"\0t\0")
    host.dom0.told()
    seen: list[Message | None] = []

    def look() -> None:
        seen.append(host.guest.next())
        seen.append(host.dom0.next())

    host.kept.commit = look  # type: ignore[method-assign]
    host.guest.send(T.WRITE, b"data/a\0x")
    host.loop.turn(None)
    host.loop.turn(0)
    assert len(seen) >= 2
    assert seen[:2] == [None, None]
    del host.kept.commit
    assert host.guest.answer().payload == b"OK\0"
    assert host.dom0.told() == [("/local/domain/5/data/a", "t")]


# Hostile clients


def others_are_served(host: Host) -> None:
    """Within a turn or two."""
    number = host.dom0.send(T.READ, HOME + b"/data\0")
    for _ in range(3):
        host.loop.turn(0)
    answer = host.dom0.next()
    assert answer is not None
    assert answer.req_id == number


def test_a_message_may_come_byte_by_byte(host: Host) -> None:
    for byte in encode(Message(T.WRITE, 9, 0, b"data/a\0slow")):
        host.guest.stream.sendall(bytes([byte]))
        host.loop.turn(0)
        others_are_served(host)
    assert host.guest.answer() == Message(T.WRITE, 9, 0, b"OK\0")


@pytest.mark.parametrize("length", [4097, 0xFFFF_FFFF])
def test_who_announces_too_much_is_cut_off(host: Host, length: int) -> None:
    for peer in (host.guest, host.process, host.connect()):
        peer.stream.sendall(HEADER.pack(T.WRITE, 1, 0, length))
        assert peer.cut_off
    others_are_served(host)
    assert host.dom0.says(T.IS_DOMAIN_INTRODUCED, b"5\0") == b"T\0"


def test_a_message_that_never_ends_disturbs_nobody(host: Host) -> None:
    host.guest.stream.sendall(HEADER.pack(T.WRITE, 1, 0, 4096) + b"data/a\0" + b"x" * 4000)
    for _ in range(5):
        host.loop.turn(0)
    others_are_served(host)
    host.guest.close()
    assert host.dom0.says(T.READ, HOME + b"/data/a\0") == b"!ENOENT"


def test_who_hangs_up_in_the_middle_has_asked_nothing(host: Host) -> None:
    client = host.connect()
    client.stream.sendall(encode(Message(T.WRITE, 1, 0, b"/half\0value"))[:-1])
    host.loop.turn(0)
    client.close()
    assert host.dom0.says(T.READ, b"/half\0") == b"!ENOENT"


def test_who_does_not_read_is_not_served_and_not_remembered_without_bounds(host: Host) -> None:
    host.guest.says(T.WATCH, b"data\0t\0")
    host.guest.says(T.WRITE, b"data/big\0" + b"x" * 1900)
    ask = encode(Message(T.READ, 7, 0, b"data/big\0")) * 100
    sent = 0
    for _ in range(2000):
        try:
            sent += host.guest.stream.send(ask)
        except BlockingIOError:
            break
        host.loop.turn(0)
        host.loop.turn(0)
    domain = host.server.store.domains[5]
    assert domain.guest.waiting <= 2 * domain.guest.quota.outstanding
    others_are_served(host)
    for number in range(3000):
        host.server.store.write(domain.process, f"/local/domain/5/data/{number % 500}/{number}", b"")
    assert domain.guest._queued_bytes <= domain.guest.quota.queued + 5000
    others_are_served(host)
    read = 0
    while read < sent // len(encode(Message(T.READ, 7, 0, b"data/big\0"))):
        assert host.guest.answer().req_id == 7
        read += 1


def test_one_client_gets_a_share_of_a_turn(host: Host) -> None:
    flood = encode(Message(T.READ, 7, 0, b"data\0")) * 400
    host.guest.stream.sendall(flood)
    number = host.dom0.send(T.READ, HOME + b"/data\0")
    host.loop.turn(0)
    mine = host.dom0.next()
    assert mine is not None
    assert mine.req_id == number
    theirs = sum(1 for _ in iter(host.guest.next, None))
    assert theirs <= 64
    assert all(host.guest.answer().req_id == 7 for _ in range(400 - theirs))


def test_a_storm_of_watches_reaches_its_maker_only(host: Host) -> None:
    for number in range(128):
        assert host.guest.says(T.WATCH, b"data\0%d\0" % number) == b"OK\0"
    assert host.guest.says(T.WATCH, b"data\0straw\0") == b"!E2BIG"
    host.guest.told()
    writes = encode(Message(T.WRITE, 7, 0, b"data/a\0x")) * 200
    host.guest.stream.sendall(writes)
    for _ in range(20):
        others_are_served(host)
    answered = 0
    while answered < 200:
        assert host.guest.answer().payload == b"OK\0"
        answered += 1


def test_transactions_pile_up_to_a_bound(host: Host) -> None:
    for _ in range(10):
        tx = int(host.guest.says(T.TRANSACTION_START, b"\0")[:-1])
        for number in range(5):
            assert host.guest.says(T.WRITE, b"data/%d\0" % number + b"x" * 1900, tx) == b"OK\0"
    assert host.guest.says(T.TRANSACTION_START, b"\0") == b"!ENOSPC"
    assert host.guest.says(T.RESET_WATCHES, b"\0") == b"OK\0"
    assert int(host.guest.says(T.TRANSACTION_START, b"\0")[:-1])
    assert host.guest.says(T.DIRECTORY, b"data\0") == b""


def test_a_guest_fills_its_quota_only(host: Host) -> None:
    made = 0
    while host.guest.says(T.WRITE, b"data/%d/%d\0" % (made // 50, made)) == b"OK\0":
        made += 1
        assert made < 1000
    assert host.guest.says(T.WRITE, b"data/0\0" + b"x" * 2048) == b"!ENOSPC"
    assert host.guest.says(T.SET_PERMS, b"data\0n5\0" + b"r6\0" * 5) == b"!ENOSPC"
    assert host.process.says(T.WRITE, HOME + b"/name\0x") == b"OK\0"
    others_are_served(host)


def test_clients_of_domain_0_leave_no_watch_behind(host: Host) -> None:
    client = host.connect()
    client.says(T.WATCH, b"/\0t\0")
    client.says(T.TRANSACTION_START, b"\0")
    client.close()
    host.dom0.says(T.WRITE, b"/a\0")
    assert host.server.store.watch_table._by_path == {}
    root = host.server.store.tree.get("/")
    assert root is not None
    assert root.children.pins == 0


@given(st.lists(st.tuples(st.sampled_from([0, 1, 2]), st.binary(max_size=80)), max_size=12))
def test_no_bytes_whatever_disturb_the_others(chunks: list[tuple[int, bytes]]) -> None:
    host = Host()
    try:
        hostile = (host.guest, host.process, host.connect())
        for who, data in chunks:
            try:
                hostile[who].stream.sendall(data)
            except OSError:
                continue
            host.loop.turn(0)
        others_are_served(host)
        contents(host.server.store)
    finally:
        host.close()
