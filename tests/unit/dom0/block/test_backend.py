"""The block back end's conversation with a front end, over a disk whose operations the test ends."""

import errno
from itertools import pairwise, product

import pytest

from tests.unit.dom0.block.front import Front
from tests.unit.dom0.block.manual_disk import ManualDisk
from tests.unit.dom0.fake_guest import FakeGuest
from xenion.abi.io.blkif import BLKIF_DISCARD_SECURE, PROTOCOL_X86_32, PROTOCOL_X86_64, BlkifOp, BlkifRsp
from xenion.dom0.block import queue as queue_module
from xenion.dom0.block.backend import BlockBackend, MediumError
from xenion.dom0.block.disk import FLUSH, READ, WRITE, EmptyDrive
from xenion.dom0.loop import Loop
from xenion.dom0.xenbus.backend import Backend, FrontendError

OKAY, ERROR, UNSUPPORTED = BlkifRsp.OKAY, BlkifRsp.ERROR, BlkifRsp.EOPNOTSUPP
OP = BlkifOp
WHOLE = (0, 7)


class Device:
    """A back end and what it told."""

    def __init__(self, guest: FakeGuest, disk: ManualDisk | EmptyDrive, loop: Loop) -> None:
        self.backend = BlockBackend(guest, 51712, disk, loop)
        self.said: list[str] = []
        self.nodes: dict[str, str] = {}
        self.backend.log_to(self.said.append)
        self.backend.changed = self.nodes.update
        self.ended = 0

    def connect(self, front: Front) -> dict[str, str]:
        return dict(self.backend.connect(front.nodes))

    def disconnect(self) -> None:
        self.backend.disconnect(self._end)

    def _end(self) -> None:
        self.ended += 1


@pytest.fixture
def disk(loop: Loop) -> ManualDisk:
    made = ManualDisk(loop)
    made.data[:] = b"".join(bytes([sector % 251]) * 512 for sector in range(len(made.data) // 512))
    return made


@pytest.fixture
def device(guest: FakeGuest, disk: ManualDisk, loop: Loop) -> Device:
    return Device(guest, disk, loop)


def run(loop: Loop, disk: ManualDisk, front: Front, count: int, queue: int = 0) -> list[tuple[int, int, int]]:
    """Everything ends as soon as it began."""
    answers = front.answers(queue)
    while len(answers) < count:
        loop.turn(10 if not disk.pending else 0)
        disk.finish_all()
        answers += front.answers(queue)
    return answers


def test_it_is_a_back_end(device: Device) -> None:
    backend: Backend = device.backend
    assert (backend.kind, backend.devid) == ("vbd", 51712)


def test_nodes(device: Device, guest: FakeGuest, loop: Loop, disk: ManualDisk) -> None:
    assert device.backend.backend_nodes() == {
        "mode": "w",
        "removable": "0",
        "max-ring-page-order": "4",
        "multi-queue-max-queues": "4",
        "feature-persistent": "1",
        "feature-max-indirect-segments": "256",
        "feature-flush-cache": "1",
        "feature-barrier": "1",
        "discard-enable": "1",
        "feature-discard": "1",
        "discard-granularity": "4096",
        "discard-alignment": "0",
        "discard-secure": "0",
    }
    assert device.backend.frontend_nodes() == {"virtual-device": "51712", "device-type": "disk"}
    assert device.connect(Front(guest, loop)) == {
        "sectors": "2048",
        "info": "0",
        "sector-size": "512",
        "physical-sector-size": "4096",
    }


def test_nodes_of_what_cannot_be_written(guest: FakeGuest, loop: Loop) -> None:
    odd = Device(guest, ManualDisk(loop, 512 * 9, writable=False), loop)
    nodes = odd.backend.backend_nodes()
    assert (nodes["mode"], nodes["feature-flush-cache"], nodes["discard-enable"]) == ("r", "0", "0")
    assert "feature-discard" not in nodes
    assert odd.connect(Front(guest, loop)) == {
        "sectors": "9", "info": "4", "sector-size": "512", "physical-sector-size": "512",
    }  # fmt: skip
    cdrom = Device(guest, EmptyDrive(loop), loop)
    assert cdrom.backend.frontend_nodes()["device-type"] == "cdrom"
    nodes = cdrom.connect(Front(guest, loop))
    assert (nodes["sectors"], nodes["info"]) == ("0", "7")


LAYOUTS = list(product([PROTOCOL_X86_64, PROTOCOL_X86_32], [0, 2, 4], [1, 4], [False, True]))


@pytest.mark.parametrize(("protocol", "order", "queues", "persistent"), LAYOUTS)
def test_every_kind_of_ring(
    device: Device,
    guest: FakeGuest,
    loop: Loop,
    disk: ManualDisk,
    protocol: str,
    order: int,
    queues: int,
    persistent: bool,
) -> None:
    front = Front(
        guest, loop, protocol=protocol, order=order, queues=queues, persistent=persistent, start=0xFFFF_FFF0
    )
    device.connect(front)
    ident = 0xFFFF_FFFF_0000_0000
    for round_, queue in product(range(40), range(queues)):
        ident += 1
        guest.told.clear()
        page = round_ % 8
        direct = front.request(OP.READ, ident, 16 * round_, [(page + 1, *WHOLE), (page + 10, 2, 3)])
        front.send(direct, queue=queue)
        assert run(loop, disk, front, 1, queue) == [(ident, OP.READ, OKAY)]
        assert guest.frames[page] == disk.data[16 * 512 * round_ :][:4096]
        assert guest.frames[page + 9][1024:2048] == disk.data[16 * 512 * round_ + 4096 :][:1024]
        assert guest.told == [page, page + 9]
    assert bool([m for m in guest.mapped if m.ref < 1000]) == persistent
    device.disconnect()
    while not device.ended:
        loop.turn(0)
    assert not guest.mapped
    assert all(port.handler is None for port in guest.ports.values())


def test_writes_with_grants_for_reading(
    device: Device, guest: FakeGuest, loop: Loop, disk: ManualDisk
) -> None:
    front = Front(guest, loop)
    device.connect(front)
    guest.frames[3][:] = b"three" * 819 + b"3"
    front.send(front.request(OP.WRITE, 1, 8, [(504, *WHOLE)]))
    assert run(loop, disk, front, 1) == [(1, OP.WRITE, OKAY)]
    assert disk.data[4096:8192] == guest.frames[3]
    assert guest.told == []
    front.send(front.request(OP.READ, 2, 8, [(504, *WHOLE)]))  # but no reads into them
    assert run(loop, disk, front, 1) == [(2, OP.READ, ERROR)]


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("protocol", [PROTOCOL_X86_64, PROTOCOL_X86_32])
def test_indirect_segments(
    device: Device, guest: FakeGuest, loop: Loop, disk: ManualDisk, persistent: bool, protocol: str
) -> None:
    front = Front(guest, loop, persistent=persistent, protocol=protocol)
    device.connect(front)
    segments = [(frame + 1, frame % 8, frame % 8) for frame in range(63)] * 4 + [(1, *WHOLE)] * 4
    assert len(segments) == 256
    front.send(front.indirect(OP.READ, 5, 64, segments, 64))
    assert run(loop, disk, front, 1) == [(5, OP.READ, OKAY)]  # the operation that the front end compares
    for frame in range(1, 63):
        at = (64 + 63 * 3 + frame) * 512
        assert guest.frames[frame][frame % 8 * 512 :][:512] == disk.data[at : at + 512]
    front.send(front.indirect(OP.WRITE, 6, 0, segments[:33], 64))
    assert run(loop, disk, front, 1) == [(6, OP.WRITE, OKAY)]
    for bad in (
        front.indirect(OP.READ, 7, 0, segments, 64, count=257),
        front.indirect(OP.READ, 7, 0, segments, 64, count=0),
        front.indirect(OP.READ, 7, 0, segments, 999),
        front.indirect(OP.READ, 7, 0, [(1, 1, 8)], 64),
        front.indirect(OP.READ, 7, 0, [(999, 0, 7)], 64),
    ):
        front.send(bad)
        assert run(loop, disk, front, 1) == [(7, OP.READ, ERROR)]
    for operation in (OP.WRITE_BARRIER, OP.FLUSH_DISKCACHE, OP.DISCARD, OP.INDIRECT, 77):
        front.send(front.indirect(operation, 8, 0, segments[:1], 64))
        assert front.wait(1) == [(8, operation, ERROR)]
    assert len([m for m in guest.mapped if m.ref < 1000]) == (64 if persistent else 0)


BAD_SEGMENTS = {
    "none": ([], None),
    "twelve": ([(1, *WHOLE)] * 11, 12),
    "255": ([(1, *WHOLE)] * 11, 255),
    "first above last": ([(1, 5, 4)], None),
    "beyond the page": ([(1, 0, 8)], None),
    "far beyond the page": ([(1, 255, 255)], None),
    "unknown grant": ([(1, *WHOLE), (999, *WHOLE)], None),
    "grant zero": ([(0, *WHOLE)], None),
}


@pytest.mark.parametrize("operation", [OP.READ, OP.WRITE, OP.WRITE_BARRIER, OP.FLUSH_DISKCACHE])
@pytest.mark.parametrize("name", BAD_SEGMENTS)
def test_bad_segments(
    device: Device, guest: FakeGuest, loop: Loop, disk: ManualDisk, name: str, operation: int
) -> None:
    if name == "none" and operation > OP.WRITE:
        pytest.skip("a flush needs none")
    front = Front(guest, loop)
    device.connect(front)
    segments, count = BAD_SEGMENTS[name]
    before = bytes(disk.data)
    front.send(front.request(operation, 9, 0, segments, count))
    assert run(loop, disk, front, 1) == [(9, operation, ERROR)]
    assert disk.data == before
    assert len(guest.mapped) == 1


@pytest.mark.parametrize("sector", [2041, 2048, 1 << 40, (1 << 64) - 1, (1 << 64) - 8, (1 << 63) // 512])
@pytest.mark.parametrize("operation", [OP.READ, OP.WRITE, OP.DISCARD])
def test_beyond_the_end(
    device: Device, guest: FakeGuest, loop: Loop, disk: ManualDisk, sector: int, operation: int
) -> None:
    front = Front(guest, loop)
    device.connect(front)
    if operation == OP.DISCARD:
        request = front.discard(1, sector, 8)
    else:
        request = front.request(operation, 1, sector, [(1, *WHOLE)])
    assert front.do(request) == [(1, operation, ERROR)]
    assert not disk.pending


def test_the_last_sector_is_there(device: Device, guest: FakeGuest, loop: Loop, disk: ManualDisk) -> None:
    front = Front(guest, loop)
    device.connect(front)
    front.send(front.request(OP.WRITE, 1, 2047, [(1, 7, 7)]), front.discard(2, 0, 2048))
    assert run(loop, disk, front, 2) == [(1, OP.WRITE, OKAY), (2, OP.DISCARD, OKAY)]


def test_4096_byte_sectors(guest: FakeGuest, loop: Loop) -> None:
    disk = ManualDisk(loop, sector_bytes=4096)
    device = Device(guest, disk, loop)
    front = Front(guest, loop)
    nodes = device.connect(front)
    assert (nodes["sectors"], nodes["sector-size"]) == ("2048", "4096")  # always in units of 512
    front.send(front.request(OP.READ, 1, 2040, [(1, *WHOLE)]), front.discard(2, 8, 16))
    assert run(loop, disk, front, 2) == [(1, OP.READ, OKAY), (2, OP.DISCARD, OKAY)]
    for bad in (
        front.request(OP.READ, 3, 4, [(1, *WHOLE)]),
        front.request(OP.READ, 3, 8, [(1, 0, 3), (2, 4, 7)]),
        front.request(OP.READ, 3, 8, [(1, *WHOLE), (2, 0, 0)]),
    ):
        assert front.do(bad) == [(3, OP.READ, ERROR)]
    assert front.do(front.discard(4, 8, 4), front.discard(5, 1, 8)) == [
        (4, OP.DISCARD, ERROR),
        (5, OP.DISCARD, ERROR),
    ]


def test_what_nobody_knows_is_not_supported(device: Device, guest: FakeGuest, loop: Loop) -> None:
    front = Front(guest, loop)
    device.connect(front)
    for operation in (4, 7, 8, 255):
        assert front.do(front.request(operation, 1, 0, [])) == [(1, operation, UNSUPPORTED)]


def test_read_only(guest: FakeGuest, loop: Loop) -> None:
    disk = ManualDisk(loop, writable=False)
    device = Device(guest, disk, loop)
    front = Front(guest, loop)
    device.connect(front)
    page = [(1, *WHOLE)]
    assert front.do(
        front.request(OP.WRITE, 1, 0, page),
        front.request(OP.WRITE_BARRIER, 2, 0, page),
        front.request(OP.FLUSH_DISKCACHE, 3, 0, []),
        front.discard(4, 0, 8),
    ) == [
        (1, OP.WRITE, ERROR),
        (2, OP.WRITE_BARRIER, ERROR),
        (3, OP.FLUSH_DISKCACHE, OKAY),
        (4, OP.DISCARD, ERROR),
    ]
    front.send(front.request(OP.READ, 5, 0, page))
    assert run(loop, disk, front, 1) == [(5, OP.READ, OKAY)]


def test_discard_that_is_not_offered(guest: FakeGuest, loop: Loop) -> None:
    disk = ManualDisk(loop)
    disk.discard_bytes = 0
    device = Device(guest, disk, loop)
    assert "feature-discard" not in device.backend.backend_nodes()
    front = Front(guest, loop)
    device.connect(front)
    assert front.do(front.discard(1, 0, 8)) == [(1, OP.DISCARD, UNSUPPORTED)]
    disk.discard_bytes = 4096
    assert front.do(front.discard(2, 0, 8, BLKIF_DISCARD_SECURE)) == [(2, OP.DISCARD, UNSUPPORTED)]
    assert front.do(front.discard(3, 0, 0)) == [(3, OP.DISCARD, ERROR)]


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC, errno.EOPNOTSUPP])
def test_errors_of_the_image(
    device: Device, guest: FakeGuest, loop: Loop, disk: ManualDisk, error: int, persistent: bool
) -> None:
    front = Front(guest, loop, persistent=persistent)
    device.connect(front)
    page = [(1, *WHOLE)]
    front.send(
        front.request(OP.READ, 1, 0, page),
        front.request(OP.WRITE, 2, 0, page),
        front.request(OP.FLUSH_DISKCACHE, 3, 0, []),
        front.discard(4, 0, 8),
    )
    loop.turn(10)
    while disk.pending:
        disk.finish(error=error)
    expected = UNSUPPORTED if error == errno.EOPNOTSUPP else ERROR
    assert front.wait(4) == [
        (1, OP.READ, ERROR), (2, OP.WRITE, ERROR), (3, OP.FLUSH_DISKCACHE, expected), (4, OP.DISCARD, expected),
    ]  # fmt: skip
    assert guest.told == ([0] if persistent else [])  # a page that is mapped may have been written to
    assert disk.counters.as_dict() == {
        "ds_err": 1, "ds_req": 1, "f_err": 1, "f_req": 1, "oo_req": 0,
        "rd_err": 1, "rd_req": 1, "rd_sect": 8, "wr_err": 1, "wr_req": 1, "wr_sect": 8,
    }  # fmt: skip


def test_requests_run_side_by_side_and_are_answered_as_they_end(
    device: Device, guest: FakeGuest, loop: Loop, disk: ManualDisk
) -> None:
    front = Front(guest, loop)
    device.connect(front)
    front.send(*(front.request(OP.READ, ident, ident * 8, [(ident + 1, *WHOLE)]) for ident in range(32)))
    loop.turn(10)
    assert len(disk.pending) == 32
    disk.finish(31)
    assert front.wait(1) == [(31, OP.READ, OKAY)]
    disk.finish(3)
    disk.finish(0)
    assert front.wait(2) == [(3, OP.READ, OKAY), (0, OP.READ, OKAY)]


def test_a_flush_waits_for_nobody(device: Device, guest: FakeGuest, loop: Loop, disk: ManualDisk) -> None:
    front = Front(guest, loop)
    device.connect(front)
    page = [(1, *WHOLE)]
    front.send(
        front.request(OP.WRITE, 1, 0, page),
        front.request(OP.FLUSH_DISKCACHE, 2, 0, []),
        front.request(OP.READ, 3, 0, page),
    )
    loop.turn(10)
    assert [kind for kind, *_ in disk.pending] == [WRITE, FLUSH, READ]
    disk.finish(1)
    assert front.wait(1) == [(2, OP.FLUSH_DISKCACHE, OKAY)]


def test_a_flush_with_data_flushes_before_it_writes(
    device: Device, guest: FakeGuest, loop: Loop, disk: ManualDisk
) -> None:
    front = Front(guest, loop)
    device.connect(front)
    front.send(front.request(OP.FLUSH_DISKCACHE, 1, 0, [(1, *WHOLE)]))
    loop.turn(10)
    assert [kind for kind, *_ in disk.pending] == [FLUSH]
    disk.finish()
    assert [kind for kind, *_ in disk.pending] == [WRITE]
    disk.finish()
    assert front.wait(1) == [(1, OP.FLUSH_DISKCACHE, OKAY)]
    front.send(front.request(OP.FLUSH_DISKCACHE, 2, 0, [(1, *WHOLE)]))
    loop.turn(10)
    disk.finish(error=errno.EIO)
    assert not disk.pending
    assert front.wait(1) == [(2, OP.FLUSH_DISKCACHE, ERROR)]


def test_a_barrier_waits_for_what_came_before_and_holds_back_what_comes_after(
    device: Device, guest: FakeGuest, loop: Loop, disk: ManualDisk
) -> None:
    front = Front(guest, loop, queues=2)
    device.connect(front)
    page = [(1, *WHOLE)]
    front.send(
        front.request(OP.WRITE, 1, 0, page),
        front.request(OP.READ, 2, 8, [(2, *WHOLE)]),
        front.request(OP.WRITE_BARRIER, 3, 16, page),
        front.request(OP.WRITE, 4, 24, page),
        front.request(OP.WRITE_BARRIER, 5, 0, []),
    )
    loop.turn(10)
    front.send(front.request(OP.WRITE, 6, 40, page))
    loop.turn(0)
    assert [offset // 512 for _, offset, _, _, _ in disk.pending] == [0, 8]
    front.send(front.request(OP.READ, 7, 48, page), queue=1)  # another ring goes on
    loop.turn(10)
    assert len(disk.pending) == 3
    disk.finish(2)
    disk.finish(1)
    loop.turn(10)
    loop.turn(0)
    assert len(disk.pending) == 1
    log_before = len(disk.log)
    assert run(loop, disk, front, 6) == [
        (2, OP.READ, OKAY), (1, OP.WRITE, OKAY), (3, OP.WRITE_BARRIER, OKAY),
        (4, OP.WRITE, OKAY), (5, OP.WRITE_BARRIER, OKAY), (6, OP.WRITE, OKAY),
    ]  # fmt: skip
    assert [(kind, at // 512) for kind, at, _ in disk.log[log_before:]] == [
        (WRITE, 0), (FLUSH, 0), (WRITE, 16), (WRITE, 24), (FLUSH, 0), (WRITE, 40),
    ]  # fmt: skip


def test_one_device_leaves_others_their_turn(
    device: Device, guest: FakeGuest, loop: Loop, disk: ManualDisk
) -> None:
    front = Front(guest, loop, order=4)
    device.connect(front)
    loop.turn(0)
    front.send(*(front.request(OP.READ, ident, 0, [(1, *WHOLE)]) for ident in range(512)))
    seen: list[int] = []

    def other() -> None:
        seen.append(len(disk.pending))
        if seen[-1] < 512:
            loop.soon(other)

    loop.soon(other)
    while len(disk.pending) < 512:
        loop.turn(10)
    assert all(after - before <= 64 for before, after in pairwise(seen))
    disk.finish_all()
    assert len(front.wait(512)) == 512


def test_a_ring_that_is_nonsense_is_given_up_alone(
    device: Device, guest: FakeGuest, loop: Loop, disk: ManualDisk
) -> None:
    front = Front(guest, loop, queues=2)
    device.connect(front)
    front.send(front.request(OP.READ, 1, 0, [(1, *WHOLE)]))
    loop.turn(10)
    front.rings[0].set(0, front.rings[0].prod + 4000)
    guest.event(100)
    loop.turn(10)
    assert len(device.said) == 1
    assert "the guest announces 4000 requests" in device.said[0]
    assert device.nodes == {"error": device.said[0]}
    assert device.backend.error == device.said[0]
    guest.event(100)
    loop.turn(10)
    assert len(device.said) == 1
    front.send(front.request(OP.READ, 2, 0, [(2, *WHOLE)]), queue=1)
    assert run(loop, disk, front, 1, queue=1) == [(2, OP.READ, OKAY)]
    assert front.wait(1) == [(1, OP.READ, OKAY)]
    device.disconnect()
    while not device.ended:
        loop.turn(0)
    assert not guest.mapped


BAD_NODES: dict[str, dict[str, str | None]] = {
    "no channel": {"event-channel": None},
    "no ring": {"ring-ref": None},
    "unknown grant": {"ring-ref": "77777"},
    "read-only ring": {"ring-ref": "501"},
    "unknown channel": {"event-channel": "4000"},
    "words": {"event-channel": "many"},
    "sign": {"event-channel": "-100"},
    "unicode digits": {"event-channel": "\u0661\u0660\u0660"},
    "long": {"ring-ref": "1" * 4000},
    "order": {"ring-page-order": "5"},
    "missing pages": {"ring-page-order": "1"},
    "no queues": {"multi-queue-num-queues": "0"},
    "many queues": {"multi-queue-num-queues": "5"},
    "missing queues": {"multi-queue-num-queues": "2"},
    "protocol": {"protocol": "arm-abi"},
    "persistent": {"feature-persistent": "yes"},
}


@pytest.mark.parametrize("name", BAD_NODES)
def test_front_ends_that_are_refused(device: Device, guest: FakeGuest, loop: Loop, name: str) -> None:
    front = Front(guest, loop)
    for node, value in BAD_NODES[name].items():
        if value is None:
            del front.nodes[node]
        else:
            front.nodes[node] = value
    with pytest.raises(FrontendError) as refused:
        device.connect(front)
    assert len(str(refused.value)) < 300
    assert not guest.mapped
    assert all(port.handler is None for port in guest.ports.values())
    loop.turn(0)
    again = Front(guest, loop)
    assert device.connect(again)["sectors"] == "2048"


def test_a_second_queue_that_fails_takes_the_first_along(
    device: Device, guest: FakeGuest, loop: Loop
) -> None:
    front = Front(guest, loop, queues=2, order=1)
    guest.unbound.discard(101)
    with pytest.raises(FrontendError, match="event channel 101"):
        device.connect(front)
    assert not guest.mapped
    assert guest.ports[100].handler is None


def test_disconnect_waits_for_what_runs(
    device: Device, guest: FakeGuest, loop: Loop, disk: ManualDisk
) -> None:
    front = Front(guest, loop, persistent=True)
    device.connect(front)
    page = [(1, *WHOLE)]
    front.send(
        front.request(OP.READ, 1, 0, page),
        front.request(OP.WRITE_BARRIER, 2, 0, page),
        front.request(OP.WRITE, 3, 8, page),
    )
    loop.turn(10)
    device.disconnect()
    device.disconnect()
    front.send(front.request(OP.READ, 4, 0, page))  # too late
    for _ in range(3):
        loop.turn(0)
    assert not device.ended
    while not device.ended:
        disk.finish_all()
        loop.turn(0)
    assert device.ended == 2
    assert [ident for ident, *_ in front.answers()] == [1, 2, 3]
    assert not guest.mapped
    assert guest.ports[100].handler is None
    device.disconnect()
    assert device.ended == 3
    again = Front(guest, loop, persistent=True)
    device.connect(again)
    again.send(again.request(OP.READ, 5, 0, page))
    assert run(loop, disk, again, 1) == [(5, OP.READ, OKAY)]


def test_disconnect_does_not_wait_for_limits(
    device: Device, guest: FakeGuest, loop: Loop, disk: ManualDisk
) -> None:
    disk.set_limits(0, 0.001)
    front = Front(guest, loop)
    device.connect(front)
    page = [(1, *WHOLE)]
    front.send(
        front.request(OP.READ, 1, 0, page),
        front.request(OP.READ, 2, 0, page),
        front.request(OP.WRITE_BARRIER, 3, 0, page),
    )
    loop.turn(10)
    assert len(disk.pending) == 1
    device.disconnect()
    while not device.ended:
        disk.finish_all()
        loop.turn(0)
    assert [answer[2] for answer in front.answers()] == [OKAY] * 3


def test_resize(device: Device, guest: FakeGuest, loop: Loop, disk: ManualDisk) -> None:
    disk.data += bytes(4096)
    disk.resize()
    device.backend.resized()
    assert device.nodes == {}
    front = Front(guest, loop)
    assert device.connect(front)["sectors"] == "2056"
    disk.data += bytes(4096)
    disk.resize()
    device.backend.resized()
    assert device.nodes == {"sectors": "2064"}
    front.send(front.request(OP.READ, 1, 2056, [(1, *WHOLE)]))
    assert run(loop, disk, front, 1) == [(1, OP.READ, OKAY)]


def test_another_medium(guest: FakeGuest, loop: Loop) -> None:
    device = Device(guest, EmptyDrive(loop), loop)
    front = Front(guest, loop)
    device.connect(front)
    page = [(1, *WHOLE)]
    assert front.do(front.request(OP.READ, 1, 0, page)) == [(1, OP.READ, ERROR)]
    disc = ManualDisk(loop, cdrom=True)
    disc.data[:5] = b"CD001"
    device.backend.insert(disc)
    assert device.nodes == {"sectors": "2048"}
    front.send(front.request(OP.READ, 2, 0, page), front.request(OP.WRITE, 3, 0, page))
    loop.turn(10)
    device.backend.insert(EmptyDrive(loop))  # the read still ends where it began
    assert run(loop, disc, front, 2) == [(3, OP.WRITE, ERROR), (2, OP.READ, OKAY)]
    assert guest.frames[0][:5] == b"CD001"
    assert device.nodes == {"sectors": "0"}
    assert front.do(front.request(OP.READ, 4, 0, page)) == [(4, OP.READ, ERROR)]
    with pytest.raises(MediumError, match="only a CD-ROM drive"):
        device.backend.insert(ManualDisk(loop))
    with pytest.raises(MediumError, match="sectors of 512"):
        device.backend.insert(ManualDisk(loop, cdrom=True, sector_bytes=4096))


@pytest.mark.parametrize("persistent", [False, True])
def test_the_same_disk_in_another_place(
    device: Device, guest: FakeGuest, loop: Loop, disk: ManualDisk, persistent: bool
) -> None:
    """The front end, which has let go meanwhile, is told of no change."""
    page = [(1, *WHOLE)]
    front = Front(guest, loop, persistent=persistent)
    nodes = device.connect(front)
    front.send(front.request(OP.WRITE, 1, 0, page))
    loop.turn(10)
    device.disconnect()
    assert run(loop, disk, front, 1) == [(1, OP.WRITE, OKAY)]
    other = ManualDisk(loop)
    other.data[:5] = b"there"
    device.backend.go_on_with(other)
    again = Front(guest, loop, persistent=persistent)
    assert (device.connect(again), device.nodes, device.said) == (nodes, {}, [])
    again.send(again.request(OP.READ, 2, 0, page))
    assert run(loop, other, again, 1) == [(2, OP.READ, OKAY)]
    again.send(again.request(OP.WRITE, 3, 8, page))
    assert run(loop, other, again, 1) == [(3, OP.WRITE, OKAY)]
    assert guest.frames[0][:5] == other.data[4096:4101] == b"there"
    assert [kind for kind, *_ in disk.log] == [WRITE]


def test_in_another_place_before_a_guest_has_seen_it(device: Device, guest: FakeGuest, loop: Loop) -> None:
    device.backend.go_on_with(ManualDisk(loop))
    assert device.connect(Front(guest, loop))["sectors"] == "2048"
    assert device.nodes == {}


def test_persistent_grants_are_mapped_once_and_in_bounded_number(
    device: Device, guest: FakeGuest, loop: Loop, disk: ManualDisk
) -> None:
    front = Front(guest, loop, persistent=True)
    device.connect(front)
    for ident in range(50):
        front.send(front.request(OP.READ, ident, 0, [(1, *WHOLE), (2, *WHOLE)]))
        run(loop, disk, front, 1)
    assert guest.maps == 3
    for ref in range(2000, 2000 + 3000):
        guest.grant(ref, ref % 64)
    for ref in range(2000, 5000, 10):
        front.send(
            front.request(OP.READ, ref, 0, [(1, *WHOLE)] + [(r, *WHOLE) for r in range(ref, ref + 10)])
        )
        run(loop, disk, front, 1)
    assert 900 < len(guest.mapped) <= 1057
    kept = {mapped.ref for mapped in guest.mapped}
    assert 1 in kept  # what is used stays
    assert 2 not in kept
    assert 4999 in kept


def test_what_runs_keeps_its_pages_when_too_many_are_named(
    device: Device, guest: FakeGuest, loop: Loop, disk: ManualDisk
) -> None:
    front = Front(guest, loop, persistent=True)
    device.connect(front)
    for ref in range(2000, 10000):
        guest.grant(ref, ref % 60)
    page = 4096
    for ident in range(32):
        refs = range(2000 + 250 * ident, 2000 + 250 * (ident + 1))
        front.send(front.indirect(OP.READ, ident, 0, [(ref, *WHOLE) for ref in refs], 61 + ident % 3))
        loop.turn(10)
    assert len(disk.pending) == 32
    assert len(guest.mapped) > 8000
    assert len(run(loop, disk, front, 32)) == 32
    loop.turn(0)
    assert len(guest.mapped) <= 1057
    last = 9965  # the last grant of frame 5
    assert guest.frames[5] == disk.data[(last - 9750) * page :][:page]


def test_copies_are_bounded(
    device: Device, guest: FakeGuest, loop: Loop, disk: ManualDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_module, "MOST_COPIED", 4 * 4096)
    front = Front(guest, loop)
    device.connect(front)
    front.send(
        *(
            front.request(OP.WRITE if ident % 2 else OP.READ, ident, ident * 8, [(ident + 1, *WHOLE)])
            for ident in range(32)
        )
    )
    most = 0
    answers = front.answers()
    while len(answers) < 32:
        loop.turn(0)
        most = max(most, len(disk.pending))
        if disk.pending:
            disk.finish(len(disk.pending) - 1)
        answers += front.answers()
    assert most == 5
    assert sorted(answers) == [(ident, OP.WRITE if ident % 2 else OP.READ, OKAY) for ident in range(32)]
