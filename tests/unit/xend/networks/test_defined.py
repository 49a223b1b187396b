"""[networks.NAME] of xend.toml."""

from ipaddress import IPv4Interface
from typing import Any, NoReturn

import pytest

from xenion.xend.networks import defined
from xenion.xend.networks.defined import Kind, Network


class WrongError(Exception):
    pass


def wrong(sentence: str) -> NoReturn:
    raise WrongError(sentence)


@pytest.mark.parametrize(
    ("values", "network"),
    [
        (
            {"kind": "nat", "address": "10.55.0.1/24"},
            Network("lan", Kind.NAT, "xn-lan", IPv4Interface("10.55.0.1/24"), dhcp=True),
        ),
        (
            {"kind": "routed", "address": "10.0.0.9/8", "dhcp": False, "uplink": "eth0.7"},
            Network("lan", Kind.ROUTED, "xn-lan", IPv4Interface("10.0.0.9/8"), uplink="eth0.7"),
        ),
        ({"kind": "isolated"}, Network("lan", Kind.ISOLATED, "xn-lan")),
        (
            {"kind": "isolated", "address": "10.0.0.1/30"},
            Network("lan", Kind.ISOLATED, "xn-lan", IPv4Interface("10.0.0.1/30"), dhcp=True),
        ),
        ({"kind": "bridge", "bridge": "br0"}, Network("lan", Kind.BRIDGE, "br0")),
    ],
)
def test_networks(values: dict[str, Any], network: Network) -> None:
    assert defined.parse("lan", values, wrong) == network


GOOD = {"kind": "nat", "address": "10.55.0.1/24"}


@pytest.mark.parametrize(
    ("name", "values", "says"),
    [
        ("Lan", GOOD, "at most 12 small letters"),
        ("lan.1", GOOD, "at most 12 small letters"),
        ("a234567890123", GOOD, "at most 12 small letters"),
        ("lan", 3, "[networks.lan] must be a table"),
        ("lan", {}, "networks.lan.kind must be one of nat, routed, isolated, bridge"),
        ("lan", {"kind": ["nat"]}, "kind must be one of"),
        ("lan", {**GOOD, "bridge": "br0"}, "networks.lan.bridge is not known for the kind nat"),
        ("lan", {"kind": "bridge"}, "networks.lan.bridge must be the name"),
        ("lan", {"kind": "bridge", "bridge": "a/b"}, "networks.lan.bridge must be the name"),
        ("lan", {"kind": "bridge", "bridge": ".."}, "networks.lan.bridge must be the name"),
        ("lan", {"kind": "nat"}, "networks.lan.address must be an IPv4 address"),
        ("lan", {"kind": "nat", "address": 3}, "must be an IPv4 address"),
        ("lan", {"kind": "nat", "address": "10.0.0.1"}, "with its prefix length"),
        ("lan", {"kind": "nat", "address": "fd00::1/64"}, "must be an IPv4 address"),
        ("lan", {"kind": "nat", "address": "10.0.0.1/31"}, "from 8 to 30"),
        ("lan", {"kind": "nat", "address": "10.0.0.1/7"}, "from 8 to 30"),
        ("lan", {"kind": "nat", "address": "10.0.0.0/24"}, "as in 10.0.0.1/24"),
        ("lan", {"kind": "nat", "address": "10.0.0.255/24"}, "address of a host"),
        ("lan", {**GOOD, "dhcp": 1}, "dhcp must be true or false"),
        ("lan", {"kind": "isolated", "dhcp": True}, "false without an address"),
        ("lan", {**GOOD, "uplink": ""}, "networks.lan.uplink must be the name"),
        ("lan", {**GOOD, "uplink": 7}, "networks.lan.uplink must be the name"),
    ],
)
def test_mistakes(name: str, values: Any, says: str) -> None:
    with pytest.raises(WrongError) as caught:
        defined.parse(name, values, wrong)
    assert says in str(caught.value)
