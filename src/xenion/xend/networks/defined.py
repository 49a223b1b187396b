"""What xend.toml says of networks: of the user network, and of those of the host's, which xend makes when the first
interface is plugged in.

user_network = "auto"      # or "passt" or "slirp", and never the other
host_loopback = false      # whether a guest's gateway leads to the host's 127.0.0.1

[networks.lan]
kind = "nat"               # or "routed", "isolated", "bridge"
address = "10.55.0.1/24"   # the host's own in it; nat and routed need one
dhcp = true                # with an address: dnsmasq hands out the others, where it is installed
uplink = "eth0"            # nat and routed: what leads outside; left out: whatever the default route says
bridge = "br0"             # kind "bridge" only: a bridge that is there already
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Interface
from typing import Any, NoReturn

from xenion.config.vif import DEVICE_NAME

_KEYS = {
    "nat": ("kind", "address", "dhcp", "uplink"),
    "routed": ("kind", "address", "dhcp", "uplink"),
    "isolated": ("kind", "address", "dhcp"),
    "bridge": ("kind", "bridge"),
}
_NAME = re.compile(r"[a-z][a-z0-9-]{0,11}")
SMALLEST, LARGEST = 30, 8
"""Prefix lengths."""


@dataclass(frozen=True, slots=True)
class UserNetwork:
    """`program`: auto, passt or slirp. `host_loopback`: the gateway's address leads to the host's 127.0.0.1."""

    program: str = "auto"
    host_loopback: bool = False


class Kind(StrEnum):
    NAT = "nat"
    ROUTED = "routed"
    ISOLATED = "isolated"
    BRIDGE = "bridge"


@dataclass(frozen=True, slots=True)
class Network:
    """`bridge` is the device's name; it is xend's own but for the kind "bridge"."""

    name: str
    kind: Kind
    bridge: str
    address: IPv4Interface | None = None
    dhcp: bool = False
    uplink: str = ""


def parse(name: str, values: Any, wrong: Callable[[str], NoReturn]) -> Network:
    """`wrong` raises with a sentence that goes on from the file's name."""
    table = f"networks.{name}"
    if not _NAME.fullmatch(name):
        wrong(f"{table}: a network's name is at most 12 small letters, digits and -, a letter first")
    if not isinstance(values, dict):
        wrong(f"[{table}] must be a table")
    kind = values.get("kind")
    if not isinstance(kind, str) or kind not in _KEYS:
        wrong(f"{table}.kind must be one of {', '.join(_KEYS)}")
    for key in values:
        if key not in _KEYS[kind]:
            wrong(f"{table}.{key} is not known for the kind {kind}: there is {', '.join(_KEYS[kind])}")
    if kind == Kind.BRIDGE:
        return Network(name, Kind.BRIDGE, _device(values, "bridge", table, wrong, needed=True))
    address = _address(values, table, wrong, needed=kind != Kind.ISOLATED)
    dhcp = values.get("dhcp", address is not None)
    if not isinstance(dhcp, bool) or (dhcp and address is None):
        wrong(f"{table}.dhcp must be true or false, and false without an address")
    uplink = _device(values, "uplink", table, wrong, needed=False)
    return Network(name, Kind(kind), f"xn-{name}", address, dhcp, uplink)


def _device(
    values: dict[str, Any], key: str, table: str, wrong: Callable[[str], NoReturn], *, needed: bool
) -> str:
    device = values.get(key, "")
    if not isinstance(device, str) or ((key in values or needed) and not DEVICE_NAME.fullmatch(device)):
        wrong(f'{table}.{key} must be the name of a network device, as in {key} = "br0"')
    return device


def _address(
    values: dict[str, Any], table: str, wrong: Callable[[str], NoReturn], *, needed: bool
) -> IPv4Interface | None:
    if "address" not in values and not needed:
        return None
    text = values.get("address")
    try:
        address = IPv4Interface(text if isinstance(text, str) and "/" in text else "")
    except ValueError:
        wrong(
            f'{table}.address must be an IPv4 address with its prefix length, as in address = "10.55.0.1/24"'
        )
    network = address.network
    if not LARGEST <= network.prefixlen <= SMALLEST:
        wrong(f"{table}.address must have a prefix length from {LARGEST} to {SMALLEST}")
    if address.ip in (network.network_address, network.broadcast_address):
        wrong(f"{table}.address must be the address of a host, as in {network[1]}/{network.prefixlen}")
    return address
