"""Disks behind NBD servers: QEMU's, and ones that die, lie and come again."""

import errno
import random
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.unit.dom0.block.nbd_server import (
    FLUSH,
    READ,
    TRIM,
    WRITE,
    MemoryServer,
    PlayedServer,
    Qemu,
    Request,
)
from xenion.dom0.block import nbd
from xenion.dom0.block.nbd import NbdDisk
from xenion.dom0.block.nbd_handshake import NbdError, NbdInfo
from xenion.dom0.loop import Loop

SIZE = 1 << 20
HAS, RO, FLUSHES, FUA, TRIMS, MULTI = 1, 2, 4, 8, 32, 256
ALL = HAS | FLUSHES | FUA | TRIMS


class Client:
    """A disk and what its operations came to."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.lost: list[str] = []
        self.ended: dict[int, int] = {}
        self.views: dict[int, list[memoryview]] = {}
        self.disk: NbdDisk

    def connect(self, fds: list[int], info: NbdInfo, **options: object) -> "Client":
        self.disk = NbdDisk(fds, info, self.loop, on_lost=self.lost.append, **options)  # type: ignore[arg-type]
        return self

    def end(self, number: int) -> Callable[[int], None]:
        assert number not in self.ended, "nobody would wait for it"

        def ended(error: int) -> None:
            assert number not in self.ended
            self.ended[number] = error

        return ended

    def read(self, number: int, offset: int, *sizes: int) -> None:
        self.views[number] = [memoryview(bytearray(size)) for size in sizes]
        self.disk.readv(offset, sum(sizes), self.views[number], self.end(number))
        self.disk.submit()

    def write(self, number: int, offset: int, *parts: bytes, fua: bool = False) -> None:
        views = [memoryview(part) for part in parts]
        self.disk.writev(offset, sum(map(len, parts)), views, self.end(number), fua=fua)
        self.disk.submit()

    def flush(self, number: int) -> None:
        self.disk.flush(self.end(number))
        self.disk.submit()

    def discard(self, number: int, offset: int, length: int) -> None:
        self.disk.discard(offset, length, self.end(number))
        self.disk.submit()

    def data(self, number: int) -> bytes:
        return b"".join(self.views[number])

    def turn(self) -> None:
        for _ in range(3):
            self.loop.turn(0)

    def wait(self, *numbers: int) -> list[int]:
        while not self.ended.keys() >= set(numbers):
            self.loop.turn(10)
        return [self.ended[number] for number in numbers]


@pytest.fixture
def client(loop: Loop) -> Iterator[Client]:
    made = Client(loop)
    yield made
    if hasattr(made, "disk"):
        made.disk._drop_connections()


@pytest.fixture
def servers() -> Iterator[list[PlayedServer]]:
    started: list[PlayedServer] = []
    yield started
    for server in started:
        server.close()


def played(servers: list[PlayedServer], count: int = 1) -> list[PlayedServer]:
    fresh = [PlayedServer() for _ in range(count)]
    servers += fresh
    return fresh


def info(flags: int = ALL, **sizes: int) -> NbdInfo:
    return NbdInfo(**{"size": SIZE, "flags": flags, **sizes})


# --- QEMU's server


@pytest.fixture
def qemu(tmp_path: Path) -> Iterator[Callable[..., Qemu]]:
    started: list[Qemu] = []

    def start(*arguments: object) -> Qemu:
        started.append(Qemu(tmp_path, *arguments))  # type: ignore[arg-type]
        return started[-1]

    yield start
    for server in started:
        server.kill()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image"
    path.write_bytes(random.Random(5).randbytes(SIZE))
    return path


@pytest.mark.parametrize("connections", [1, 3])
def test_qemu_serves_many_at_once(
    client: Client, qemu: Callable[..., Qemu], image: Path, connections: int
) -> None:
    server = qemu(image, "-f", "raw", "--discard=unmap")
    client.connect(*server.connect(connections))
    model = bytearray(image.read_bytes())
    dice = random.Random(6)
    for round_ in range(20):
        places = dice.sample(range(SIZE // 8192), 40)
        numbers = [round_ * 100 + index for index in range(40)]
        expected = {}
        for number, place in zip(numbers, places, strict=True):
            at = place * 8192 + dice.choice([0, 512])
            if dice.random() < 0.5:
                data = dice.randbytes(4608)
                model[at : at + 4608] = data
                client.write(number, at, data[:512], data[512:], fua=dice.random() < 0.2)
            else:
                expected[number] = bytes(model[at : at + 4608])
                client.read(number, at, 4096, 512)
        assert client.wait(*numbers) == [0] * 40
        for number, data in expected.items():
            assert client.data(number) == data
    client.discard(9001, 65536, 65536)
    client.flush(9002)
    assert client.wait(9001, 9002) == [0, 0]
    client.read(9003, 65536, 4096)
    assert client.wait(9003) == [0]
    client.disk.close()
    model[65536:131072] = image.read_bytes()[65536:131072]
    assert image.read_bytes() == model
    assert client.lost == []


def test_qemu_tells_of_errors(client: Client, qemu: Callable[..., Qemu], image: Path) -> None:
    client.connect(*qemu(image, "-f", "raw", "-r").connect())
    assert not client.disk.writable
    client.read(1, SIZE, 512)
    client.write(2, 0, bytes(512))
    client.read(3, 0, 512)
    beyond, written, read = client.wait(1, 2, 3)
    assert (beyond, read) == (errno.EINVAL, 0)
    assert written in (errno.EPERM, errno.EINVAL)
    assert (client.disk.counters.rd_err, client.disk.counters.wr_err) == (1, 1)


def test_a_guest_does_not_notice_that_qemu_was_killed_and_started_again(
    client: Client, qemu: Callable[..., Qemu], image: Path, tmp_path: Path
) -> None:
    """With qcow2 what was not flushed is really lost: its tables are in the server's memory."""
    path = tmp_path / "image.qcow2"
    make_qcow2(path)
    server = qemu(path, "-f", "qcow2")
    client.connect(*server.connect())
    dice = random.Random(7)
    model = bytearray(SIZE)
    number = 0
    for _ in range(5):
        for _ in range(60):
            number += 1
            at = dice.randrange(SIZE // 4096) * 4096
            data = dice.randbytes(4096)
            model[at : at + 4096] = data
            client.write(number, at, data)
            if dice.random() < 0.9:
                client.wait(number)
        server.kill()
        while not client.lost:
            client.loop.turn(10)
        client.lost.clear()
        server = qemu(path, "-f", "qcow2")
        client.disk.reconnect(*server.connect())
        client.wait(*range(1, number + 1))
    client.flush(0)
    assert client.wait(*range(number + 1)) == [0] * (number + 1)
    client.read(-1, 0, SIZE)
    client.wait(-1)
    assert client.data(-1) == model


def make_qcow2(path: Path) -> None:
    program = shutil.which("qemu-img")
    if program is None:
        pytest.skip("qemu-img is not here: install qemu-utils")
    subprocess.run([program, "create", "-q", "-f", "qcow2", str(path), str(SIZE)], check=True)


# --- servers that a test plays


def test_writes_of_several_parts_and_flags(client: Client, servers: list[PlayedServer]) -> None:
    (server,) = played(servers)
    client.connect([server.client], info())
    client.write(1, 512, b"a" * 512, b"b" * 1024, fua=True)
    client.discard(2, 0, 4096)
    client.flush(3)
    found = server.requests()
    assert [(r.code, r.flags, r.offset, r.length) for r in found] == [
        (WRITE, 1, 512, 1536), (TRIM, 0, 0, 4096), (FLUSH, 0, 0, 0),
    ]  # fmt: skip
    assert found[0].data == b"a" * 512 + b"b" * 1024
    for request in found:
        server.reply(request)
    assert client.wait(1, 2, 3) == [0, 0, 0]


def test_a_server_without_fua_flushes_after_the_write(client: Client, servers: list[PlayedServer]) -> None:
    (server,) = played(servers)
    client.connect([server.client], info(HAS | FLUSHES))
    client.write(1, 0, bytes(512), fua=True)
    (request,) = server.requests()
    assert (request.code, request.flags) == (WRITE, 0)
    server.reply(request)
    client.turn()
    assert client.ended == {}
    (request,) = server.requests()
    assert request.code == FLUSH
    server.reply(request)
    assert client.wait(1) == [0]


def test_a_server_without_anything(client: Client, servers: list[PlayedServer]) -> None:
    (server,) = played(servers)
    client.connect([server.client], info(HAS))
    assert client.disk.discard_bytes == 0
    client.flush(1)
    client.discard(2, 0, 512)
    assert client.ended == {1: 0, 2: errno.EOPNOTSUPP}
    client.write(3, 0, bytes(512), fua=True)
    (request,) = server.requests()
    server.reply(request, error=errno.ENOSPC)
    assert client.wait(3) == [errno.ENOSPC]


@pytest.mark.parametrize(("told", "seen"), [(1, 1), (5, 5), (28, 28), (95, 95), (77, 5), (1 << 31, 5)])
def test_errors(client: Client, servers: list[PlayedServer], told: int, seen: int) -> None:
    (server,) = played(servers)
    client.connect([server.client], info())
    client.read(1, 0, 512)
    (request,) = server.requests()
    server.reply(request, error=told)
    assert client.wait(1) == [seen]


def test_large_operations_go_in_pieces_that_the_server_takes(
    client: Client, servers: list[PlayedServer]
) -> None:
    (server,) = played(servers)
    client.connect([server.client], info(max_block=8192 + 100))
    client.write(1, 4096, b"a" * 5000, b"b" * 15480)
    sizes = []
    while 1 not in client.ended:
        client.turn()
        for request in server.requests():
            sizes.append((request.offset, request.length, request.data[:1] + request.data[-1:]))
            server.reply(request)
    assert sizes == [(4096, 8192, b"ab"), (12288, 8192, b"bb"), (20480, 4096, b"bb")]
    client.read(2, 0, 4096, 4096, 4096)
    while 2 not in client.ended:
        client.turn()
        for request in server.requests():
            server.reply(request, bytes([request.offset // 4096]) * request.length)
    assert client.data(2) == b"\0" * 8192 + b"\2" * 4096
    client.read(3, 0, 16384)
    (request,) = server.requests()
    server.reply(request, error=errno.EIO)
    assert client.wait(3) == [errno.EIO]
    assert server.requests() == []


def test_large_discards_go_in_pieces(client: Client, servers: list[PlayedServer]) -> None:
    (server,) = played(servers)
    client.connect([server.client], info(size=1 << 40))
    client.discard(1, 512, (5 << 30) + 512)
    pieces = []
    while 1 not in client.ended:
        client.turn()
        for request in server.requests():
            pieces.append(request.length)
            server.reply(request)
    assert pieces == [1 << 30] * 5 + [512]


def test_several_connections_share_the_work_if_the_server_says_so(
    client: Client, servers: list[PlayedServer]
) -> None:
    three = played(servers, 3)
    client.connect([server.client for server in three], info(ALL | MULTI))
    for number in range(6):
        client.read(number, number * 512, 512)
    for server in three:
        requests = server.requests()
        assert len(requests) == 2
        for request in requests:
            server.reply(request, bytes(512))
    assert client.wait(*range(6)) == [0] * 6


def test_several_connections_are_one_if_the_server_does_not_say_so(
    client: Client, servers: list[PlayedServer]
) -> None:
    first, second = played(servers, 2)
    client.connect([first.client, second.client], info())
    for number in range(4):
        client.read(number, 0, 512)
    assert len(first.requests()) == 4
    second.sock.setblocking(True)
    assert second.sock.recv(1) == b""


def test_block_sizes(client: Client, servers: list[PlayedServer]) -> None:
    (server,) = played(servers)
    with pytest.raises(NbdError, match="give the disk larger sectors"):
        client.connect([server.client], info(min_block=4096))
    client.connect([server.client], info(min_block=4096, size=10000), sector_bytes=4096)
    assert client.disk.size == 8192
    assert client.disk.discard_bytes == 4096


def test_what_a_lost_server_owes_is_asked_again(client: Client, servers: list[PlayedServer]) -> None:
    old, new = played(servers, 2)
    client.connect([old.client], info())
    client.read(1, 0, 512)
    client.write(2, 512, b"w" * 512)
    client.read(3, 1024, 512)
    requests = old.requests()
    old.reply(requests[2], b"3" * 512)
    assert client.wait(3) == [0]
    old.reply(requests[0], b"half")
    old.close()
    client.turn()
    assert client.lost == ["the NBD server hung up"]
    client.flush(4)
    client.turn()
    assert sorted(client.ended) == [3]
    client.disk.reconnect([new.client], info())
    again = new.requests()
    assert [(r.code, r.offset, r.data) for r in again] == [
        (READ, 0, b""), (WRITE, 512, b"w" * 512), (FLUSH, 0, b""),
    ]  # fmt: skip
    new.reply(again[1])
    new.reply(again[0], b"1" * 512)
    new.reply(again[2])
    assert client.wait(1, 2, 4) == [0, 0, 0]
    assert client.data(1) == b"1" * 512
    assert client.lost == ["the NBD server hung up"]


def test_all_connections_go_with_the_one_that_is_lost(client: Client, servers: list[PlayedServer]) -> None:
    one, two, three, four = played(servers, 4)
    client.connect([one.client, two.client], info(ALL | MULTI))
    for number in range(4):
        client.read(number, number * 512, 512)
    one.requests()
    one.send(b"nonsense from a server that lost its mind")
    client.turn()
    assert len(client.lost) == 1
    client.disk.reconnect([three.client, four.client], info(ALL | MULTI))
    requests = [(server, request) for server in (three, four) for request in server.requests()]
    assert sorted(request.offset for _, request in requests) == [0, 512, 1024, 1536]
    for server, request in requests:
        server.reply(request, bytes(512))
    assert client.wait(*range(4)) == [0] * 4


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nbd, "GIVE_UP_S", 0.01)


@pytest.mark.usefixtures("impatient")
def test_patience_ends_and_a_new_server_is_welcome_later(client: Client, servers: list[PlayedServer]) -> None:
    old, new = played(servers, 2)
    client.connect([old.client], info())
    client.write(1, 0, b"1" * 512)
    (request,) = old.requests()
    old.reply(request)
    assert client.wait(1) == [0]
    client.write(2, 0, b"2" * 512)
    client.read(3, 0, 512)
    client.flush(4)
    old.close()
    while len(client.ended) < 4:
        client.loop.turn(client.loop._time_left())
    assert [client.ended[number] for number in (2, 3, 4)] == [errno.EIO] * 3
    client.read(5, 0, 512)
    assert client.ended[5] == errno.EIO
    assert client.disk.idle
    client.disk.reconnect([new.client], info())
    (request,) = new.requests()
    assert (request.code, request.data) == (WRITE, b"1" * 512)  # acknowledged, and perhaps lost
    client.read(6, 0, 512)
    assert new.requests() == []
    new.reply(request)
    client.turn()
    (request,) = new.requests()
    new.reply(request, b"1" * 512)
    assert client.wait(6) == [0]


def test_patience_is_not_spent_on_a_server_that_is_back(
    client: Client, servers: list[PlayedServer], impatient: None
) -> None:
    old, new = played(servers, 2)
    client.connect([old.client], info())
    client.read(1, 0, 512)
    old.close()
    client.loop.turn(10)
    assert client.lost
    client.disk.reconnect([new.client], info())
    assert client.loop._time_left() is None


def test_what_was_acknowledged_and_not_flushed_is_written_again_in_order(
    client: Client, servers: list[PlayedServer]
) -> None:
    old, new, newer = played(servers, 3)
    client.connect([old.client], info())

    def answer(*errors: int) -> None:
        for request, error in zip(old.requests(), errors, strict=True):
            old.reply(request, error=error)
        client.turn()

    client.write(1, 0, b"flushed." * 64)
    answer(0)
    client.flush(2)
    client.write(3, 0, b"before.." * 64)
    flush, write = old.requests()
    old.reply(write)  # done after the flush had been asked for: it covers it or not
    old.reply(flush)
    client.turn()
    client.write(4, 0, b"later..." * 64, fua=True)
    answer(0)
    client.write(5, 512, b"failed.." * 64)
    answer(errno.EIO)
    client.write(6, 1024, b"unknown." * 64)
    old.close()
    client.turn()
    client.disk.reconnect([new.client], info())
    (first,) = new.requests()
    assert first.data == b"before.." * 64
    new.close()  # and again
    client.turn()
    assert len(client.lost) == 2
    client.disk.reconnect([newer.client], info())
    order = []
    while not {6} <= client.ended.keys():
        client.turn()
        for request in newer.requests():
            order.append(request.data[:8])
            newer.reply(request)
    assert order == [b"before..", b"later...", b"unknown."]
    assert client.ended == {1: 0, 2: 0, 3: 0, 4: 0, 5: errno.EIO, 6: 0}


def test_a_write_that_cannot_be_repeated_fails_the_next_flush(
    client: Client, servers: list[PlayedServer]
) -> None:
    old, new = played(servers, 2)
    client.connect([old.client], info())
    client.write(1, 0, bytes(512))
    old.reply(old.only())
    client.wait(1)
    old.close()
    client.turn()
    client.disk.reconnect([new.client], info())
    new.reply(new.only(), error=errno.ENOSPC)
    client.turn()
    client.flush(2)
    new.reply(new.only())
    assert client.wait(2) == [errno.ENOSPC]
    client.flush(3)
    new.reply(new.only())
    assert client.wait(3) == [0]


def test_memory_for_unflushed_writes_is_bounded(
    client: Client, servers: list[PlayedServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nbd, "UNFLUSHED_BYTES", 16384)
    (server,) = played(servers)
    client.connect([server.client], info())
    flushes: list[Request] = []
    writes = 0
    for number in range(40):
        client.write(number, number * 4096, bytes(4096))
        client.turn()
        for request in server.requests():
            if request.code == FLUSH:
                flushes.append(request)
            else:
                writes += 1
                server.reply(request)
        client.turn()
        assert client.disk._unflushed.bytes <= 16384 + 4096
    assert writes == 5
    assert len(flushes) == 1
    server.reply(flushes.pop())
    while len(client.ended) < 40:
        client.turn()
        for request in server.requests():
            server.reply(request)
        assert client.disk._unflushed.bytes <= 40 * 4096
    assert set(client.ended.values()) == {0}


def test_an_error_of_our_own_flush_reaches_the_guests_next(
    client: Client, servers: list[PlayedServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nbd, "UNFLUSHED_BYTES", 4096)
    (server,) = played(servers)
    client.connect([server.client], info())
    client.write(1, 0, bytes(4096))
    server.reply(server.only())
    client.wait(1)
    client.turn()
    (flush,) = server.requests()
    server.reply(flush, error=errno.EIO)
    client.turn()
    client.flush(2)
    server.reply(server.only())
    assert client.wait(2) == [errno.EIO]


def test_what_comes_back_must_be_what_went(client: Client, servers: list[PlayedServer]) -> None:
    old, new = played(servers, 2)
    client.connect([old.client], info())
    with pytest.raises(NbdError, match="for reading only"):
        client.disk.reconnect([new.client], info(ALL | RO))
    with pytest.raises(NbdError, match="larger sectors"):
        client.disk.reconnect([new.client], info(min_block=1024))
    client.read(1, 0, 512)
    old.reply(old.only(), data=bytes(512))
    assert client.wait(1) == [0]
    client.disk.reconnect([new.client], info(size=2 * SIZE))
    assert client.disk.size == SIZE
    assert client.disk.resize() == 2 * SIZE
    assert client.lost == []


def test_random_deaths(client: Client, servers: list[PlayedServer]) -> None:
    """The server keeps what was flushed and loses anything else when it dies. Nobody notices."""
    dice = random.Random(8)
    stable, model = bytearray(SIZE), bytearray(SIZE)
    server = MemoryServer(stable, {})
    servers.append(server)
    client.connect([server.client], info())
    number = 0
    for _ in range(150):
        for _ in range(dice.randrange(12)):
            number += 1
            at = dice.randrange(64) * 512
            what = dice.random()
            if what < 0.7:
                data = dice.randbytes(512)
                model[at : at + 512] = data
                client.write(number, at, data, fua=what < 0.1)
                if dice.random() < 0.8:  # what runs side by side does not lie over each other
                    while number not in client.ended:
                        server.serve()
                        client.turn()
                else:
                    server.serve()
                    client.turn()
            elif what < 0.8:
                client.flush(number)
        if dice.random() < 0.3:
            server.close()
            client.turn()
            server = MemoryServer(stable, {})
            servers.append(server)
            client.disk.reconnect([server.client], info())
        while not client.disk.idle:
            server.serve()
            client.turn()
    client.read(0, 0, 32768)
    while 0 not in client.ended:
        server.serve()
        client.turn()
    assert client.data(0) == model[:32768]
    assert set(client.ended.values()) == {0}


def test_close(client: Client, servers: list[PlayedServer]) -> None:
    (server,) = played(servers)
    client.connect([server.client], info())
    client.flush(1)
    client.disk.close()
    (request,) = server.requests()
    server.reply(request)
    assert client.wait(1) == [0]
    client.turn()
    assert [request.code for request in server.requests()] == [2]
    server.sock.setblocking(True)
    assert server.sock.recv(1) == b""
    client.read(2, 0, 512)
    assert client.ended[2] == errno.EIO


def test_a_socket_that_is_dead_already(client: Client) -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    client.connect([ours.detach()], info())
    client.write(1, 0, bytes(512))
    client.turn()
    assert len(client.lost) == 1
    assert client.ended == {}
