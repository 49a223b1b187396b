"""The back end and a front end in conversation: connecting, both directions, mistakes, stalls."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.dom0.fake_guest import FakeGuest
from tests.unit.dom0.net import frames as make
from tests.unit.dom0.net.conftest import Plugged
from tests.unit.dom0.net.front import (
    MAC_BYTES,
    OTHER_MAC,
    REQUEST,
    FakeWire,
    FrontEnd,
    gso_extra,
    options,
    settle,
)
from xenion.abi.io import netif
from xenion.abi.io.netif import NETIF_RSP_ERROR, NETIF_RSP_NULL, NETIF_RSP_OKAY
from xenion.dom0.loop import Loop
from xenion.dom0.net import backend as net_backend
from xenion.dom0.net.backend import NetBackend
from xenion.dom0.net.packet import MSS_LEAST
from xenion.dom0.net.wire import Frame
from xenion.dom0.xenbus.backend import FrontendError

Plug = Callable[..., Plugged]
BLANK = netif.NETTXF_csum_blank | netif.NETTXF_data_validated
VALIDATED, CSUM_BLANK = netif.NETRXF_data_validated, netif.NETRXF_csum_blank
V4, V6 = netif.XEN_NETIF_GSO_TYPE_TCPV4, netif.XEN_NETIF_GSO_TYPE_TCPV6
PLAIN = make.ether(b"hello" * 10, 0x88B5)


def incoming(payload: bytes, **how: Any) -> bytes:
    return make.tcp(payload, ether_source=OTHER_MAC, ether_target=MAC_BYTES, **how)


# --- connecting


def test_nodes_of_the_back_end(plug: Plug) -> None:
    nodes = plug(
        connect=False, addresses=("10.0.0.1", "fd00::1"), rate_bytes=1_000_000
    ).backend.backend_nodes()
    assert nodes["mac"] == "00:16:3e:00:00:01"
    assert nodes["handle"] == "0"
    assert nodes["rate"] == "50000,50000"
    assert nodes["ip"] == "10.0.0.1 fd00::1"
    assert nodes["multi-queue-max-queues"] == "8"
    for feature in ("sg", "gso-tcpv4", "gso-tcpv6", "rx-copy", "ipv6-csum-offload", "split-event-channels"):
        assert nodes[f"feature-{feature}"] == "1"
    assert nodes["feature-rx-flip"] == "0"


def test_nodes_of_the_front_end(plug: Plug) -> None:
    assert plug(connect=False).backend.frontend_nodes() == {
        "handle": "0",
        "mac": "00:16:3e:00:00:01",
        "mtu": "1500",
    }


def test_no_rate_node_without_a_rate(plug: Plug) -> None:
    assert "rate" not in plug(connect=False).backend.backend_nodes()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"request-rx-copy": "0"}, "request-rx-copy"),
        ({"tx-ring-ref": None}, "did not write tx-ring-ref"),
        ({"tx-ring-ref": "77777"}, "cannot be used"),
        ({"rx-ring-ref": "77777"}, "cannot be used"),
        ({"rx-ring-ref": "-1"}, "rx-ring-ref"),
        ({"tx-ring-ref": "1" * 5000}, "tx-ring-ref"),
        ({"event-channel-tx": "99"}, "event channel 99"),
        ({"event-channel-rx": None}, "did not write event-channel"),
        ({"event-channel-rx": "4294967296"}, "event-channel-rx"),
        ({"multi-queue-num-queues": "9"}, "asks for 9 queues"),
        ({"multi-queue-num-queues": "0"}, "asks for 0 queues"),
        ({"multi-queue-num-queues": "2"}, "did not write queue-0/"),
        ({"feature-sg": "\u0661"}, "feature-sg"),
    ],
)
def test_a_front_end_that_cannot_be_connected_leaves_nothing_behind(
    plug: Plug, changes: dict[str, str | None], says: str
) -> None:
    made = plug(connect=False)
    for name, value in changes.items():
        if value is None:
            del made.front.nodes[name]
        else:
            made.front.nodes[name] = value
    with pytest.raises(FrontendError, match=says):
        made.backend.connect(made.front.nodes)
    assert made.guest.mapped == []
    assert all(port.handler is None for port in made.guest.ports.values())


def test_a_ring_that_may_only_be_read_is_refused(plug: Plug) -> None:
    made = plug(connect=False)
    made.guest.grants[1001] = (made.front.queue.base + 1, False)
    with pytest.raises(FrontendError):
        made.backend.connect(made.front.nodes)
    assert made.guest.mapped == []


def test_the_last_of_several_queues_is_bad(plug: Plug) -> None:
    made = plug(queues=3, connect=False)
    made.front.nodes["queue-2/rx-ring-ref"] = "99999"
    with pytest.raises(FrontendError):
        made.backend.connect(made.front.nodes)
    assert made.guest.mapped == []


def test_connects_again_and_again(plug: Plug) -> None:
    made = plug()
    ended: list[int] = []
    for round_ in range(50):
        made.backend.disconnect(lambda: ended.append(1))
        made.backend.disconnect(lambda: ended.append(2))
        assert ended[-2:] == [1, 2]
        assert made.guest.mapped == []
        made.guest.unbound |= set(made.front.queue.ports)
        made.connect()
        made.front.queue.send(PLAIN)
        made.kick()
        assert len(made.wire.sent) == round_ + 1


def test_a_front_end_that_goes_on_in_a_used_ring(plug: Plug) -> None:
    """A crash kernel, or a back end that was started again: both go on at what the ring says."""
    made = plug()
    made.front.queue.send(PLAIN)
    made.front.queue.post(10)
    made.kick()
    made.wire.deliver(PLAIN)
    made.front.queue.received()
    made.backend.disconnect(lambda: None)
    made.front.queue.rx.req_prod = made.front.queue.rx.rsp_cons
    made.front.queue.posted = made.front.queue.rx.rsp_cons
    made.guest.unbound |= set(made.front.queue.ports)
    made.connect()
    made.front.queue.answers()
    made.front.queue.post(4)
    made.front.queue.send(PLAIN)
    made.kick()
    assert made.wire.deliver(PLAIN) == 1
    assert made.front.queue.answers() == [(0, NETIF_RSP_OKAY)]
    assert [frame[0] for frame in made.front.queue.received()] == [PLAIN]


# --- from the guest


@pytest.mark.parametrize("split", [True, False])
def test_a_frame_goes_out_and_is_answered(plug: Plug, split: bool) -> None:
    made = plug(split=split)
    made.front.queue.send(PLAIN)
    made.kick()
    assert made.wire.frames == [PLAIN]
    assert made.front.queue.answers() == [(0, NETIF_RSP_OKAY)]
    assert made.guest.ports[10].notified == 1
    assert made.backend.counters.tx_packets == 1
    assert made.backend.counters.tx_bytes == len(PLAIN)


def test_what_waits_at_connecting_goes_out_without_a_notification(plug: Plug) -> None:
    made = plug(connect=False)
    made.front.queue.send(PLAIN)
    made.connect()
    assert made.wire.frames == [PLAIN]


@pytest.mark.parametrize("how", [{}, {"source": "fd00::1", "target": "fd00::2"}, {"vlans": 1}])
def test_checksums_are_completed_for_a_plain_wire(plug: Plug, how: dict[str, object]) -> None:
    made = plug()
    made.front.queue.send(make.tcp(b"data", blank=True, **how), BLANK)  # type: ignore[arg-type]
    made.kick()
    assert made.wire.sent == [(make.tcp(b"data", **how), False, 0, 0)]  # type: ignore[arg-type]


def test_checksums_are_left_to_a_wire_that_can(plug: Plug) -> None:
    made = plug(offload=True)
    frame = make.tcp(b"data" * 2000, blank=True)
    made.front.queue.send(frame, BLANK, [gso_extra(1448)])
    made.kick()
    assert made.wire.sent[0] == (frame, True, V4, 1448)
    assert made.front.queue.answers()[:2] == [(0, NETIF_RSP_OKAY), (0, NETIF_RSP_NULL)]


def test_a_big_frame_stays_whole_on_a_wire_that_takes_it(plug: Plug) -> None:
    made = plug(big=True)
    made.front.queue.send(make.tcp(b"data" * 10000, blank=True), BLANK, [gso_extra(1448)])
    made.kick()
    assert made.wire.frames == [make.tcp(b"data" * 10000)]
    answers = made.front.queue.answers()
    assert [status for _, status in answers] == [0, NETIF_RSP_NULL] + [0] * 9
    assert [ident for ident, status in answers if status == 0] == list(range(10))


def test_a_big_frame_is_cut_for_a_wire_that_does_not_take_it(plug: Plug) -> None:
    made = plug(big=False)
    made.front.queue.send(make.tcp(b"x" * 3000, blank=True), BLANK, [gso_extra(1000)])
    made.kick()
    assert made.wire.frames == [make.tcp(b"x" * 1000, seq=1 + i * 1000, ident=7 + i) for i in range(3)]
    assert made.backend.counters.tx_packets == 1


@pytest.mark.parametrize("offload", [True, False])
def test_a_segmented_frame_with_a_full_checksum_is_mended(plug: Plug, offload: bool) -> None:
    made = plug(offload=offload)
    made.front.queue.send(make.tcp(b"x" * 3000), 0, [gso_extra(1000)])
    made.kick()
    assert made.wire.frames == [make.tcp(b"x" * 3000, blank=offload)]


@pytest.mark.parametrize("wire", [{"offload": True}, {"big": True}, {"big": False}])
def test_a_big_frame_in_crumbs_is_refused_on_every_wire(plug: Plug, wire: dict[str, bool]) -> None:
    made = plug(**wire)
    made.front.queue.send(make.tcp(b"x" * 3000, blank=True), BLANK, [gso_extra(MSS_LEAST - 1)])
    made.front.queue.send(make.tcp(b"x" * 3000, blank=True), BLANK, [gso_extra(MSS_LEAST)])
    made.kick()
    assert [status for _, status in made.front.queue.answers() if status != NETIF_RSP_NULL] == [
        NETIF_RSP_ERROR,
        0,
    ]


@pytest.mark.parametrize(
    ("frame", "flags", "extras"),
    [
        (PLAIN, BLANK, ()),
        (make.tcp(b"data", fragment=0x2000), BLANK, ()),
        (make.tcp(b"data")[:40], BLANK, ()),
        (PLAIN, 0, (gso_extra(1000),)),
        (b"short", 0, ()),
    ],
)
def test_frames_that_cannot_be_are_errors(
    plug: Plug, frame: bytes, flags: int, extras: tuple[bytes, ...]
) -> None:
    made = plug()
    made.front.queue.send(frame, flags, extras)
    made.front.queue.send(PLAIN)
    made.kick()
    assert made.front.queue.answers()[0][1] == NETIF_RSP_ERROR
    assert made.wire.frames == [PLAIN]
    assert made.backend.counters.tx_errors == 1


def test_a_bad_grant_costs_one_packet(plug: Plug) -> None:
    made = plug()
    queue = made.front.queue
    queue.send(PLAIN)
    queue.tx.put(REQUEST.pack(4444, 0, netif.NETTXF_more_data, 5, 100))
    queue.tx.put(REQUEST.pack(queue.tx_ref(0), 0, 0, 6, 40))
    queue.send(PLAIN)
    made.kick()
    assert made.wire.frames == [PLAIN, PLAIN]
    assert queue.answers() == [(0, 0), (5, NETIF_RSP_ERROR), (6, NETIF_RSP_ERROR), (0, 0)]
    assert made.backend.counters.tx_errors == 1


def test_a_broken_ring_turns_the_device_off_until_it_connects_again(plug: Plug) -> None:
    made = plug()
    queue = made.front.queue
    queue.send(PLAIN)
    queue.tx.put(REQUEST.pack(queue.tx_ref(0), 4000, 0, 5, 200))
    queue.tx.show()
    made.kick()
    assert made.wire.frames == [PLAIN]
    assert queue.answers() == [(0, 0)]
    assert len(made.said) == 1
    assert "turned off until it connects again" in made.said[0]
    queue.post(10)
    queue.send(PLAIN)
    made.kick()
    assert made.wire.deliver(PLAIN) == 1
    assert (queue.answers(), queue.received()) == ([], [])
    assert made.backend.counters.rx_drops == 1
    made.backend.disconnect(lambda: None)
    made.front = FrontEnd(made.guest)
    made.guest.unbound |= set(made.front.queue.ports)
    made.connect()
    made.front.queue.send(PLAIN)
    made.kick()
    assert made.front.queue.answers() == [(0, 0)]


@pytest.mark.parametrize("ring", ["tx", "rx"])
def test_an_impossible_index_turns_the_device_off(plug: Plug, ring: str) -> None:
    made = plug()
    queue = made.front.queue
    getattr(queue, ring).req_prod = 300
    getattr(queue, ring).show()
    made.kick()
    made.wire.deliver(PLAIN)
    assert len(made.said) == 1
    assert made.backend.counters.rx_drops == 1


def test_a_packet_in_halves_turns_the_device_off(plug: Plug) -> None:
    made = plug()
    made.front.queue.tx.put(REQUEST.pack(1002, 0, netif.NETTXF_more_data, 0, 100))
    made.front.queue.tx.show()
    made.kick()
    assert "only a part" in made.said[0]


def test_many_packets_in_one_go(plug: Plug) -> None:
    made = plug()
    for _ in range(256):
        made.front.queue.send(PLAIN)
    made.kick()
    assert made.wire.frames == [PLAIN] * 256
    assert made.front.queue.answers() == [(0, 0)] * 256


def test_a_full_wire_holds_the_guest_back(plug: Plug) -> None:
    made = plug()
    made.wire.room = False
    made.front.queue.send(PLAIN)
    made.kick()
    assert (made.wire.frames, made.front.queue.answers()) == ([], [])
    made.wire.room = True
    made.backend.room_again()
    assert made.wire.frames == [PLAIN]


def test_frames_for_a_dead_wire_are_counted(plug: Plug) -> None:
    made = plug()
    made.wire.dead = True
    made.front.queue.send(PLAIN)
    made.kick()
    assert made.front.queue.answers() == [(0, 0)]
    assert made.backend.counters.tx_drops == 1


def test_spoofed_frames_are_dropped(plug: Plug) -> None:
    made = plug(anti_spoofing=True, addresses=("10.0.0.1",))
    made.front.queue.send(make.tcp(b"own", blank=True), BLANK)
    made.kick()
    made.front.queue.send(make.tcp(b"another", "10.0.0.9", blank=True), BLANK)
    made.kick()
    made.front.queue.send(make.tcp(b"mac", ether_source=OTHER_MAC))
    made.kick()
    assert made.wire.frames == [make.tcp(b"own")]
    assert made.backend.counters.tx_drops == 2
    assert [status for _, status in made.front.queue.answers()] == [0, 0, 0]


def test_the_rate_holds_the_guest_back(plug: Plug, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    made = plug(rate_bytes=20 * len(PLAIN), rate_window_us=100_000)
    changed: dict[str, str] = {}
    made.backend.changed = changed.update
    for _ in range(5):
        made.front.queue.send(PLAIN)
    made.kick()
    assert len(made.wire.sent) == 2
    now[0] += 0.1
    made.settle()
    assert len(made.wire.sent) == 4
    made.backend.set_rate(0, 0)
    assert len(made.wire.sent) == 5
    assert changed == {"rate": ""}


# --- to the guest


def test_a_frame_comes_in(plug: Plug) -> None:
    made = plug()
    made.front.queue.post(4)
    assert made.wire.deliver(PLAIN, incoming(b"x")) == 2
    assert made.front.queue.received() == [(PLAIN, VALIDATED, None), (incoming(b"x"), VALIDATED, None)]
    assert made.guest.ports[11].notified == 1
    assert made.backend.counters.rx_packets == 2


def test_what_is_not_known_to_be_good_is_not_said_to_be(plug: Plug) -> None:
    made = plug()
    made.front.queue.post(1)
    made.wire.deliver(incoming(b"x"), validated=False)
    assert made.front.queue.received() == [(incoming(b"x"), 0, None)]


def test_a_long_frame_takes_several_slots(plug: Plug) -> None:
    made = plug(mtu=9000)
    frame = make.ether(bytes(range(250)) * 30, 0x88B5)
    made.front.queue.post(2)
    made.wire.deliver(frame)
    assert made.front.queue.received() == [(frame, VALIDATED, None)]


@pytest.mark.parametrize(("source", "kind"), [("10.0.0.1", V4), ("fd00::1", V6)])
def test_a_big_tcp_frame_is_given_as_segments_to_be(plug: Plug, source: str, kind: int) -> None:
    made = plug(mtu=1500)
    how = {"source": source, "target": "fd00::2" if ":" in source else "10.0.0.2"}
    made.front.queue.post(30)
    made.wire.deliver(incoming(b"y" * 60000, **how))
    mss = 1500 - (60 if ":" in source else 40)
    expected = incoming(b"y" * 60000, blank=True, **how)
    assert made.front.queue.received() == [
        (expected, VALIDATED | CSUM_BLANK | netif.NETRXF_extra_info, (mss, kind))
    ]


def test_a_big_frame_on_a_network_of_big_frames_is_just_a_frame(plug: Plug) -> None:
    made = plug(mtu=65520)
    made.front.queue.post(30)
    made.wire.deliver(incoming(b"y" * 60000))
    assert made.front.queue.received() == [(incoming(b"y" * 60000), VALIDATED, None)]


def test_a_big_frame_is_cut_for_a_front_end_that_cannot_segment(plug: Plug) -> None:
    made = plug(mtu=1500, front={"feature_gso_tcpv4": "0"})
    made.front.queue.post(30)
    made.wire.deliver(incoming(b"y" * 3000))
    expected = [incoming(b"y" * 1460, seq=1 + 1460 * i, ident=7 + i) for i in range(2)]
    expected.append(incoming(b"y" * 80, seq=2921, ident=9))
    assert [frame for frame, _, _ in made.front.queue.received()] == expected


def test_segments_that_were_cut_wait_for_buffers(plug: Plug) -> None:
    made = plug(mtu=1500, front={"feature_sg": "0"})
    made.front.queue.post(1)
    assert made.wire.deliver(incoming(b"y" * 3000), PLAIN) == 1
    assert len(made.front.queue.received()) == 1
    made.front.queue.post(1)
    made.kick()
    assert len(made.front.queue.received()) == 1
    made.front.queue.post(2)
    made.kick()
    assert [len(frame) for frame, _, _ in made.front.queue.received()] == [134, len(PLAIN)]


def test_a_frame_that_was_changed_for_the_guest_is_not_changed_again(plug: Plug) -> None:
    made = plug(mtu=1500)
    made.front.queue.post(1)
    given = memoryview(bytearray(incoming(b"y" * 60000)))
    assert made.backend.deliver([Frame(given, False, False)]) == 1
    given[:] = bytes(len(given))  # the wire reads the next one to the same place
    made.front.queue.post(30)
    made.kick()
    assert [frame for frame, _, _ in made.front.queue.received()] == [incoming(b"y" * 60000, blank=True)]


@pytest.mark.parametrize(
    ("features", "kind", "blank"),
    [
        ({}, "10.0.0.1", True),
        ({"feature_no_csum_offload": "1"}, "10.0.0.1", False),
        ({}, "fd00::1", True),
        ({"feature_ipv6_csum_offload": "0"}, "fd00::1", False),
    ],
)
def test_blank_checksums_go_to_those_who_take_them(
    plug: Plug, features: dict[str, str], kind: str, blank: bool
) -> None:
    made = plug(front=features)
    how = {"source": kind, "target": "fd00::2" if ":" in kind else "10.0.0.2"}
    made.front.queue.post(2)
    made.wire.deliver(incoming(b"abc", blank=True, **how), blank=True)
    flags = VALIDATED | CSUM_BLANK if blank else VALIDATED
    assert made.front.queue.received() == [(incoming(b"abc", blank=blank, **how), flags, None)]


def test_segmentation_asked_for_by_the_wire(plug: Plug) -> None:
    made = plug()
    made.front.queue.post(20)
    made.wire.deliver(incoming(b"z" * 9000, blank=True), blank=True, gso=V4, mss=1000)
    assert made.front.queue.received()[0][2] == (1000, V4)


def test_a_bad_checksum_is_not_hidden_in_a_big_frame(plug: Plug) -> None:
    made = plug()
    made.front.queue.post(20)
    frame = bytearray(incoming(b"z" * 9000))
    made.wire.deliver(bytes(frame), validated=False)
    frame[-1] ^= 1
    made.wire.deliver(bytes(frame), validated=False)
    assert len(made.front.queue.received()) == 1
    assert made.backend.counters.rx_drops == 1


def test_what_does_not_fit_one_page_of_a_front_end_without_sg_is_dropped(plug: Plug) -> None:
    made = plug(mtu=9000, front={"feature_sg": "0"})
    made.front.queue.post(5)
    assert made.wire.deliver(make.ether(bytes(5000), 0x88B5), PLAIN) == 2
    assert [frame for frame, _, _ in made.front.queue.received()] == [PLAIN]
    assert made.backend.counters.rx_drops == 1


def test_without_buffers_frames_wait_in_the_wire(plug: Plug) -> None:
    made = plug()
    made.front.queue.post(2)
    assert made.wire.deliver(*[PLAIN] * 5) == 2
    assert len(made.front.queue.received()) == 2
    made.front.queue.post(1)
    made.kick()
    assert len(made.front.queue.received()) == 1
    made.front.queue.post(10)
    made.kick()
    assert len(made.front.queue.received()) == 2
    assert made.backend.counters.rx_drops == 0


def test_a_guest_that_does_not_receive_is_given_up_after_a_while(
    plug: Plug, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(net_backend, "STALL_SECONDS", 0.0)
    made = plug()
    assert made.wire.deliver(PLAIN, PLAIN) == 0
    made.settle()
    assert made.wire.waiting == []
    assert made.wire.deliver(PLAIN) == 1
    assert made.backend.counters.rx_drops == 3
    made.front.queue.post(1)
    made.kick()
    assert made.wire.deliver(PLAIN) == 1
    assert len(made.front.queue.received()) == 1


def test_a_stall_of_one_queue_ends_though_the_others_had_buffers(
    plug: Plug, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(net_backend, "STALL_SECONDS", 0.0)
    made = plug(queues=2)
    made.front.queues[0].post(200)
    made.kick()
    flows = [make.tcp(ports=(port, 80)) for port in range(1000, 1020)]
    assert made.wire.deliver(*flows) < 20
    made.settle()
    made.front.queues[1].post(100)
    made.kick()
    assert made.wire.deliver(*flows) == 20
    assert sum(len(queue.received()) for queue in made.front.queues) >= 20


def test_a_front_end_that_does_not_notify_is_looked_at(plug: Plug, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(net_backend, "LOOK_SECONDS", 0.0)
    made = plug(front={"feature_rx_notify": "0"})
    assert made.wire.deliver(PLAIN) == 0
    made.front.queue.post(1)
    made.settle()
    assert len(made.front.queue.received()) == 1


def test_before_and_after_a_connection_frames_are_counted(plug: Plug) -> None:
    made = plug(connect=False)
    assert made.wire.deliver(PLAIN) == 1
    made.connect()
    made.wire.deliver(PLAIN)
    made.backend.disconnect(lambda: None)
    assert made.wire.waiting == []
    assert made.backend.counters.rx_drops == 2


def test_grants_that_cannot_be_written_are_answered_with_the_error(plug: Plug) -> None:
    made = plug()
    queue = made.front.queue
    queue.post(3)
    made.guest.grants[queue.ref + 2 + queue.TX_PAGES] = (queue.base, False)
    made.wire.deliver(PLAIN, PLAIN)
    first, second = queue.rx.taken(8)
    assert int.from_bytes(first[6:8], "little", signed=True) == -8
    assert int.from_bytes(second[6:8], "little", signed=True) == len(PLAIN)
    assert made.backend.counters.rx_errors == 1


def test_a_multicast_filter(plug: Plug) -> None:
    made = plug(front={"request_multicast_control": "1"})
    queue = made.front.queue
    group, other = bytes.fromhex("01005e000001"), bytes.fromhex("01005e000002")
    frames = [
        make.ether(b"x" * 50, 0x88B5, OTHER_MAC, target) for target in (group, other, b"\xff" * 6, MAC_BYTES)
    ]
    queue.post(50)
    made.wire.deliver(*frames)
    assert [frame[0] for frame in queue.received()] == frames[2:]
    for kind, count in ((netif.XEN_NETIF_EXTRA_TYPE_MCAST_ADD, 3), (netif.XEN_NETIF_EXTRA_TYPE_MCAST_DEL, 2)):
        queue.send(b"", 0, [bytes([kind, 0]) + group + bytes(4)])
        made.kick()
        made.wire.deliver(*frames)
        assert len(queue.received()) == count
        assert queue.answers() == [(0, 0), (0, NETIF_RSP_NULL)]
    assert made.wire.frames == []


def test_a_multicast_filter_has_an_end(plug: Plug) -> None:
    made = plug()
    for number in range(65):
        extra = bytes([netif.XEN_NETIF_EXTRA_TYPE_MCAST_ADD, 0]) + b"\1\0^\0\0" + bytes([number]) + bytes(4)
        made.front.queue.send(b"", 0, [extra])
    made.kick()
    statuses = [status for _, status in made.front.queue.answers()[::2]]
    assert statuses == [0] * 64 + [NETIF_RSP_ERROR]


def test_queues_share_the_load_and_keep_flows_in_order(plug: Plug) -> None:
    made = plug(queues=4)
    for queue in made.front.queues:
        queue.post(100)
    made.wire.deliver(*[make.tcp(bytes([n]), ports=(1000 + n % 20, 80)) for n in range(100)])
    got = [[frame for frame, _, _ in queue.received()] for queue in made.front.queues]
    assert sum(map(len, got)) == 100
    assert all(got)
    for frames in got:
        for flow in {frame[34:36] for frame in frames}:
            numbers = [frame[54] for frame in frames if frame[34:36] == flow]
            assert numbers == sorted(numbers)
            assert len(numbers) == 5
    for queue in made.front.queues:
        queue.send(PLAIN)
    made.kick()
    assert made.wire.frames == [PLAIN] * 4


def test_a_boot_later_the_wire_and_the_counters_are_the_same(loop: Loop) -> None:
    wire, guests = FakeWire(), [FakeGuest(loop, 0), FakeGuest(loop, 0)]
    first = NetBackend(guests[0], 0, wire, options(), loop)
    fronts = [FrontEnd(guest) for guest in guests]
    first.connect(fronts[0].nodes)
    wire.deliver(PLAIN)
    first.disconnect(lambda: None)
    second = NetBackend(guests[1], 0, wire, options(), loop, counters=first.counters, captures=first.captures)
    first.close()
    second.connect(fronts[1].nodes)
    fronts[1].queue.send(PLAIN)
    fronts[1].queue.post(1)
    settle(loop)
    wire.waiting.clear()
    assert wire.deliver(PLAIN) == 1
    assert wire.frames == [PLAIN]
    assert second.counters.as_dict()["tx_packets"] == 1
    second.close()
    assert wire.deliver(PLAIN) == 1
