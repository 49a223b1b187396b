"""Layout, checksums and segmentation against an independent computation; and hostile headers."""

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.dom0.net import frames as make
from xenion.core import ffi
from xenion.dom0.net import packet

V6: dict[str, Any] = {"source": "fd00::1", "target": "fd00::2"}
HOP = (0, bytes([0]) + b"\x01\x04\0\0\0\0")
DESTINATION = (60, bytes([1]) + b"\x01\x0c" + bytes(12))
ROUTED = (43, bytes([2, 0, 1]) + bytes(20))
USED_UP = (43, bytes([2, 0, 0]) + bytes(20))
ADDRESSES = st.sampled_from([{}, V6, {"vlans": 1}, {"vlans": 2, **V6}, {"options": b"\x01" * 8}])


def run(function: Any, frame: bytes, *more: Any) -> tuple[Any, bytes]:
    changed = bytearray(frame)
    return function(packet.address_of(changed), len(changed), *more), bytes(changed)


@given(st.binary(max_size=3000), ADDRESSES, st.booleans())
def test_complete_makes_the_checksum_that_the_rfc_says(payload: bytes, how: Any, tcp: bool) -> None:
    kind = make.tcp if tcp else make.udp
    assert run(packet.complete, kind(payload, blank=True, **how)) == (True, kind(payload, **how))


@given(st.binary(max_size=3000), ADDRESSES, st.booleans())
def test_blank_is_the_reverse_of_complete(payload: bytes, how: Any, tcp: bool) -> None:
    kind = make.tcp if tcp else make.udp
    assert run(packet.blank, kind(payload, **how)) == (True, kind(payload, blank=True, **how))


def test_a_udp_checksum_of_zero_is_sent_as_ones() -> None:
    missing = make.checksum(make.udp(bytes(2), blank=True)[34:])
    frame = make.udp(struct.pack(">H", missing), blank=True)
    assert make.checksum(frame[34:]) == 0
    done, complete = run(packet.complete, frame)
    assert done
    assert complete[40:42] == b"\xff\xff"


@pytest.mark.parametrize("chain", [(HOP,), (HOP, DESTINATION), (USED_UP,), (DESTINATION, HOP, DESTINATION)])
def test_extension_headers_are_walked(chain: Any) -> None:
    blank = make.tcp(b"data", blank=True, extensions=chain, **V6)
    assert run(packet.complete, blank) == (True, make.tcp(b"data", extensions=chain, **V6))


def test_a_frame_with_another_final_target_keeps_its_own_pseudo_header() -> None:
    frame = make.tcp(b"data", blank=True, extensions=(ROUTED,), **V6)
    assert run(packet.complete, frame) == (True, make.tcp(b"data", extensions=(ROUTED,), **V6))
    assert run(packet.blank, frame) == (False, frame)


def test_padding_behind_the_packet_is_not_summed() -> None:
    assert run(packet.complete, make.tcp(blank=True) + b"\xaa" * 6) == (True, make.tcp() + b"\xaa" * 6)


@pytest.mark.parametrize(
    "frame",
    [
        make.tcp(b"data", fragment=0x2000),
        make.tcp(b"data", fragment=3),
        make.ip(b"echo echo", 1),
        make.ether(b"\0" * 60, 0x0806),
        make.tcp(b"data")[:-1],
        make.tcp(b"data", **V6)[:-1],
        make.tcp()[:20],
        make.tcp()[:46] + b"\x40" + make.tcp()[47:],
        make.tcp()[:46] + b"\x60" + make.tcp()[47:],
        make.tcp()[:14] + b"\x44" + make.tcp()[15:],
        make.tcp()[:14] + b"\x55" + make.tcp()[15:],
        make.ip(b"", 17),
        make.ip(b"1234567", 17, **V6),
        make.ip(b"", 0, **V6),
    ],
)
def test_what_has_no_whole_tcp_or_udp_is_left_alone(frame: bytes) -> None:
    for function in (packet.complete, packet.blank):
        assert run(function, frame) == (False, frame)
    assert run(packet.segment, frame, 1000) == (None, frame)


@given(st.binary(max_size=200))
def test_any_bytes_are_survived_and_offsets_lie_inside(data: bytes) -> None:
    for head in (b"", make.tcp()[:14], make.tcp(**V6)[:14], make.tcp()[:38], make.tcp(**V6)[:58]):
        frame = head + data
        found, _ = run(packet.layout, frame)
        if found is not None:
            assert found.network <= len(frame)
            assert found.transport <= found.payload <= found.end <= len(frame) or not found.payload
            assert found.transport <= found.end <= len(frame)
        run(packet.complete, frame)
        run(packet.blank, frame)
        run(packet.segment, frame, 100)
        assert 0 <= run(packet.flow, frame)[0] < 1 << 32


@given(st.binary(min_size=1, max_size=9000), st.integers(48, 3000), ADDRESSES, st.integers(0, 255))
def test_segments_are_the_packet_in_pieces(payload: bytes, mss: int, how: Any, flags: int) -> None:
    seq = 0xFFFFFF00
    frame = make.tcp(payload, flags=flags, seq=seq, tcp_options=b"\x01" * 12, blank=True, **how)
    cut, unchanged = run(packet.segment, frame, mss)
    assert unchanged == frame
    pieces = [payload[i : i + mss] for i in range(0, len(payload), mss)]
    for number, (found, piece) in enumerate(zip(cut, pieces, strict=True)):
        kept = flags & ~(0 if number == len(pieces) - 1 else 0x09) & ~(0x80 if number else 0)
        options: dict[str, Any] = {} if ":" in str(how.get("source")) else {"ident": 7 + number}
        expected = make.tcp(
            piece,
            flags=kept,
            seq=(seq + number * mss) & 0xFFFFFFFF,
            tcp_options=b"\x01" * 12,
            **how,
            **options,
        )
        assert bytes(found) == expected


def test_segments_have_a_least_size() -> None:
    frame = make.tcp(b"x" * 1000)
    assert run(packet.segment, frame, packet.MSS_LEAST - 1)[0] is None
    assert len(run(packet.segment, frame, packet.MSS_LEAST)[0]) == 21


def test_segments_of_a_packet_without_payload_are_itself() -> None:
    assert [bytes(f) for f in run(packet.segment, make.tcp(blank=True), 100)[0]] == [make.tcp()]


def test_the_longest_frame() -> None:
    payload = bytes(range(256)) * 255 + bytes(215)
    frame = make.tcp(payload, blank=True)
    assert len(frame) == 65549
    assert run(packet.complete, frame) == (True, make.tcp(payload))
    cut = run(packet.segment, frame, 1460)[0]
    assert b"".join(bytes(f)[54:] for f in cut) == payload
    assert run(packet.layout, frame + b"\0\0")[0] is None


@given(st.binary(max_size=100), ADDRESSES)
def test_verified_tells_a_good_checksum_from_a_bad_one(payload: bytes, how: Any) -> None:
    good = make.tcp(payload, **how)
    assert run(packet.verified, good) == (True, good)
    bad = bytearray(good)
    bad[-1] ^= 0x10
    assert not run(packet.verified, bytes(bad))[0]


def test_a_checksum_anywhere() -> None:
    inner = make.udp(b"inner", blank=True)
    frame = make.udp(b"12345678" + inner)
    start = len(frame) - len(inner) + 34
    done, changed = run(packet.complete_at, frame, start, 6)
    assert done
    assert changed[-len(inner) :] == make.udp(b"inner")
    for start, field in ((len(frame), 0), (len(frame) - 1, 0), (0, len(frame) - 1), (0xFFFFFFFF, 0xFFFFFFFF)):
        assert run(packet.complete_at, frame, start, field) == (False, frame)


def test_flows_are_told_apart_and_stay_together() -> None:
    one = run(packet.flow, make.tcp(b"a", ports=(1, 2)))[0]
    assert one == run(packet.flow, make.tcp(b"bcd", ports=(1, 2), seq=9))[0]
    flows = {run(packet.flow, make.tcp(ports=(port, 80)))[0] % 4 for port in range(1000, 1100)}
    assert flows == {0, 1, 2, 3}
    first = make.udp(b"first", fragment=0x2000, ports=(9, 9))
    assert run(packet.flow, first)[0] == run(packet.flow, make.ip(b"later", 17, fragment=5))[0]


def test_a_frame_need_not_be_aligned() -> None:
    memory = bytearray(b"\0" + make.tcp(b"odd", blank=True))
    at = packet.address_of(memory) + 1
    assert packet.complete(at, len(memory) - 1)
    assert bytes(memory[1:]) == make.tcp(b"odd")
    assert ffi.sizeof("struct frame_layout") == 28
