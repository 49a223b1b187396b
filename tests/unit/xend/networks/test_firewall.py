"""Rules of networks; what the kernel makes of them is in test_plugging."""

from ipaddress import IPv4Interface

import pytest

from tests.unit.xend.networks.kit import in_namespace
from xenion.xend.networks import firewall
from xenion.xend.networks.defined import Kind, Network
from xenion.xend.networks.firewall import FirewallError

ADDRESS = IPv4Interface("10.55.0.1/24")


def need_libnftables() -> None:
    try:
        firewall._library()
    except FirewallError as error:
        pytest.skip(str(error))


def test_only_nat_is_masqueraded() -> None:
    kinds = (Kind.NAT, Kind.ROUTED, Kind.ISOLATED)
    found = [firewall.rules(Network("lan", kind, "xn-lan", ADDRESS)) for kind in kinds]
    assert ["masquerade" in text for text in found] == [True, False, False]
    assert all("hook forward" in text for text in found)
    with pytest.raises(ValueError, match="has no address"):
        firewall.rules(Network("lan", Kind.ISOLATED, "xn-lan"))


def test_what_nft_refuses() -> None:
    need_libnftables()

    def inside() -> None:
        with pytest.raises(FirewallError, match="syntax error"):
            firewall.apply("add nonsense")
        with pytest.raises(FirewallError, match="No such file"):
            firewall.apply("delete table ip none")

    in_namespace(inside)


def test_again_is_fine() -> None:
    need_libnftables()
    lan = Network("lan", Kind.NAT, "xn-lan", ADDRESS)

    def inside() -> None:
        for script in (
            firewall.rules(lan),
            firewall.rules(lan),
            firewall.removal(lan),
            firewall.removal(lan),
        ):
            firewall.apply(script)

    in_namespace(inside)


def test_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(firewall, "LIBRARY", "libnone.so.1")
    firewall._library.cache_clear()
    with pytest.raises(FirewallError, match="apt-get install libnftables1"):
        firewall.apply("")
    firewall._library.cache_clear()
