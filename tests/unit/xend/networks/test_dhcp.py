"""What dnsmasq is told; what it does is in test_plugging."""

from ipaddress import IPv4Interface
from pathlib import Path

import pytest

from xenion.xend.networks import dhcp
from xenion.xend.networks.defined import Kind, Network

AT = Path("/run/x")


def words(address: str, kind: Kind = Kind.NAT, hosts: dict[str, str] | None = None) -> list[str]:
    return dhcp.words(Network("lan", kind, "xn-lan", IPv4Interface(address), dhcp=True), AT, hosts or {})


@pytest.mark.parametrize(
    ("address", "handed_out"),
    [
        ("10.55.0.1/24", "10.55.0.2,10.55.0.254,255.255.255.0"),
        ("10.55.0.254/24", "10.55.0.1,10.55.0.253,255.255.255.0"),
        ("10.55.0.9/24", "10.55.0.1,10.55.0.254,255.255.255.0"),
        ("10.0.0.1/30", "10.0.0.2,10.0.0.2,255.255.255.252"),
        ("10.0.0.2/30", "10.0.0.1,10.0.0.1,255.255.255.252"),
    ],
)
def test_the_host_keeps_its_own(address: str, handed_out: str) -> None:
    assert f"--dhcp-range={handed_out},12h" in words(address)


def test_an_isolated_network_leads_nowhere() -> None:
    """Names would be a way out."""
    assert {"--port=0", "--dhcp-option=option:router"} <= set(words("10.0.0.1/24", Kind.ISOLATED))
    assert not {"--port=0", "--dhcp-option=option:router"} & set(words("10.0.0.1/24"))


def test_promised_addresses() -> None:
    found = words("10.0.0.1/24", hosts={"00:16:3e:00:00:02": "10.0.0.8", "00:16:3e:00:00:01": "10.0.0.9"})
    assert [word for word in found if word.startswith("--dhcp-host")] == [
        "--dhcp-host=00:16:3e:00:00:01,10.0.0.9",
        "--dhcp-host=00:16:3e:00:00:02,10.0.0.8",
    ]


def test_without_an_address_there_is_none() -> None:
    with pytest.raises(ValueError, match="has no address"):
        dhcp.words(Network("lan", Kind.ISOLATED, "xn-lan"), AT, {})
