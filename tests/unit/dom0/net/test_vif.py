"""The multicast filter."""

from xenion.dom0.net.vif import MULTICAST_MOST, MulticastFilter

GROUP = bytes.fromhex("01005e000001")


def test_an_address_added_twice_goes_after_two_removals() -> None:
    it = MulticastFilter()
    assert not it.wants(GROUP)
    it.add(GROUP)
    it.add(GROUP)
    it.remove(GROUP)
    assert it.wants(GROUP)
    it.remove(GROUP)
    it.remove(GROUP)
    assert not it.wants(GROUP)


def test_everybody_wants_broadcast() -> None:
    assert MulticastFilter().wants(b"\xff" * 6)


def test_it_has_an_end() -> None:
    it = MulticastFilter()
    assert all(it.add(GROUP[:5] + bytes([number])) for number in range(MULTICAST_MOST))
    assert not it.add(GROUP)
    it.remove(GROUP)
    assert it.add(GROUP)
