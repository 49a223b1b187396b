"""Who a guest may say that it is."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.dom0.net import frames as make
from tests.unit.dom0.net.front import MAC_BYTES, OTHER_MAC
from xenion.dom0.net.guard import Guard
from xenion.dom0.net.packet import address_of

OWN = ("10.0.0.1", "fd00::1")
ALL_NODES = {"target": "ff02::1"}


def advertisement(source: str, target: str, kind: int = 136, **how: Any) -> bytes:
    import ipaddress

    body = bytes([kind, 0]) + bytes(6) + ipaddress.ip_address(target).packed
    return make.ip(body, 58, source, "ff02::1", **how)


def allows(frame: bytes, addresses: tuple[str, ...] = OWN) -> bool:
    return Guard(MAC_BYTES, addresses).allows(memoryview(frame), address_of(frame))


@pytest.mark.parametrize(
    "frame",
    [
        make.tcp(source="10.0.0.1"),
        make.tcp(source="fd00::1", target="fd00::2"),
        make.tcp(vlans=1),
        make.udp(source="0.0.0.0", ports=(68, 67)),
        make.tcp(source="fe80::1", target="fe80::2"),
        advertisement("::", "fd00::99", kind=135),
        advertisement("fd00::1", "fd00::1"),
        advertisement("fe80::1", "fe80::1"),
        make.arp(MAC_BYTES, "10.0.0.1", "10.0.0.9"),
        make.arp(MAC_BYTES, "0.0.0.0", "10.0.0.1"),
        make.ip(b"later", 6, fragment=9),
    ],
)
def test_what_is_its_own(frame: bytes) -> None:
    assert allows(frame)


@pytest.mark.parametrize(
    "frame",
    [
        make.tcp(ether_source=OTHER_MAC),
        make.tcp(source="10.0.0.3"),
        make.tcp(source="0.0.0.0"),
        make.tcp(source="fd00::2", target="fd00::1"),
        make.tcp(source="10.0.0.3", vlans=1),
        make.tcp(source="10.0.0.3", vlans=2),
        make.tcp(source="10.0.0.1", vlans=3),
        advertisement("fd00::1", "fd00::2"),
        advertisement("fe80::1", "fd00::2"),
        advertisement("fd00::1", "fd00::2", extensions=((0, bytes([0]) + b"\x01\x04\0\0\0\0"),)),
        advertisement("fd00::1", "fd00::1")[:-4],
        make.arp(MAC_BYTES, "10.0.0.3", "10.0.0.9"),
        make.arp(OTHER_MAC, "10.0.0.1", "10.0.0.9"),
        make.arp(MAC_BYTES, "10.0.0.1", "10.0.0.9")[:40],
        make.tcp()[:30],
        make.ether(bytes(50), 0x88CC),
        make.ether(bytes(50), 0x8035),
    ],
)
def test_what_is_not(frame: bytes) -> None:
    assert not allows(frame)


def test_without_addresses_the_mac_is_what_counts() -> None:
    assert allows(make.tcp(source="10.0.0.3"), ())
    assert allows(make.ether(bytes(50), 0x88CC), ())
    assert not allows(make.tcp(ether_source=OTHER_MAC), ())
    assert allows(make.arp(MAC_BYTES, "10.0.0.3", "10.0.0.9"), ())
    assert not allows(make.arp(OTHER_MAC, "10.0.0.1", "10.0.0.9"), ())


@given(st.binary(min_size=14, max_size=120), st.sampled_from([0x0800, 0x86DD, 0x0806, 0x8100]))
def test_any_bytes(data: bytes, kind: int) -> None:
    frame = data[:6] + MAC_BYTES + kind.to_bytes(2, "big") + data[14:]
    for addresses in (OWN, ()):
        assert allows(frame, addresses) in (True, False)
    if allows(frame) and kind == 0x0800:
        assert frame[26:30] in (bytes([10, 0, 0, 1]), bytes(4))
