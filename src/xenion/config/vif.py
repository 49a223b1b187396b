"""One virtual network interface of a domain, as its configuration gives it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from xenion.config.amounts import AMOUNT_MAX
from xenion.config.checks import (
    check_range,
    choice,
    items,
    members,
    number,
    plain_fields,
    text,
    texts,
    truth,
    within,
)
from xenion.config.errors import ConfigError, shown
from xenion.config.mac import check_mac, default_mac

ADDRESSES_MAX = 64
FORWARDS_MAX = 256
QUEUES_MAX = 16
PORT_MAX = 65535
RATE_WINDOW_US_MIN = 1_000
RATE_WINDOW_US_MAX = 60_000_000
LOOPBACK = "127.0.0.1"

# IFNAMSIZ in linux/if.h is 16 with its zero; the kernel refuses slashes and spaces, takes % and : for its own.
DEVICE_NAME = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9_.@+-]{1,15}")
"""Of a network device of the host's (IFNAMSIZ)."""
_NETWORK = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}")


class Attachment(StrEnum):
    """What the interface's other end is plugged into."""

    USER = "user"
    """A network of its own, joined to the host's through ordinary sockets: no root needed."""
    ISOLATED = "isolated"
    """A switch among this xend's domains alone: no root needed."""
    BRIDGE = "bridge"
    """A bridge device of the host's."""
    NETWORK = "network"
    """A network that xend.toml defines: routed or NAT."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forward:
    """A port of the host's that leads to one of the guest's."""

    protocol: str
    """tcp or udp"""
    host_address: str
    """An address of the host's; 127.0.0.1 unless said otherwise."""
    host_port: int
    guest_port: int

    def __post_init__(self) -> None:
        if self.protocol not in ("tcp", "udp"):
            raise ConfigError(f"protocol must be tcp or udp, not {shown(self.protocol)}", key="forward")
        if address(self.host_address) != self.host_address:
            sentence = f"host_address must be written as {address(self.host_address)}"
            raise ConfigError(sentence, key="forward")
        check_range("host_port", self.host_port, 1, PORT_MAX)
        check_range("guest_port", self.guest_port, 1, PORT_MAX)

    @classmethod
    def from_mapping(cls, values: object) -> Forward:
        """From plain JSON values; `host_address` may be left out. ConfigError."""
        given = {"host_address": LOOPBACK, **values} if isinstance(values, Mapping) else values
        full = members(cls, "a forward", given)
        return cls(
            protocol=text("protocol", full["protocol"]),
            host_address=address(text("host_address", full["host_address"])),
            host_port=number("host_port", full["host_port"]),
            guest_port=number("guest_port", full["guest_port"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Vif:
    """`mac` is in lower case with colons, or "" for one that is made when the domain is created.

    Making one with a bad value raises `ConfigError`.
    """

    mac: str = ""
    attachment: Attachment = Attachment.USER
    network: str = ""
    """The name of the bridge, network or isolated switch."""
    addresses: tuple[str, ...] = ()
    """What the guest may use as its own (`ip=`); empty: any. IPv4 or IPv6, without a prefix length."""
    rate_bytes: int = 0
    """Bytes a second that the guest may send; 0: no limit."""
    rate_window_us: int = 50_000
    forwards: tuple[Forward, ...] = ()
    name: str = ""
    """Of the host's device (`vifname=`), where there is one."""
    multiqueue: int = 1
    """Queues that are offered at most."""
    anti_spoofing: bool = True
    """Frames of another source MAC, or of another source address where `addresses` are given, are dropped."""

    def __post_init__(self) -> None:
        """Check every value; types are the business of mypy and, for JSON, of `from_mapping`."""
        if self.mac:
            check_mac(self.mac)
        _check_network(self)
        if self.name and not DEVICE_NAME.fullmatch(self.name):
            raise ConfigError(
                f"vifname must be a network device's name, not {shown(self.name)}", key="vifname"
            )
        _check_addresses(self.addresses)
        check_range("rate_bytes", self.rate_bytes, 0, AMOUNT_MAX)
        check_range("rate_window_us", self.rate_window_us, RATE_WINDOW_US_MIN, RATE_WINDOW_US_MAX)
        check_range("queues", self.multiqueue, 1, QUEUES_MAX)
        if self.forwards and self.attachment is not Attachment.USER:
            sentence = (
                f"forward is for the user network, not for {self.attachment}: the guest has an address there"
            )
            raise ConfigError(sentence, key="forward")
        check_forwards(self.forwards)

    def to_mapping(self) -> dict[str, object]:
        """The interface as plain JSON values, every field in it."""
        return plain_fields(self)

    @classmethod
    def from_mapping(cls, values: object, what: str = "vif") -> Vif:
        """The interface from plain JSON values; raises `ConfigError` for anything unknown or mistyped, after `what`."""
        with within("vif", what):
            full = members(cls, "an interface", values)
            return cls(
                mac=text("mac", full["mac"]).lower(),
                attachment=Attachment(choice("attachment", full["attachment"], Attachment)),
                network=text("network", full["network"]),
                addresses=tuple(map(address, texts("addresses", full["addresses"]))),
                rate_bytes=number("rate_bytes", full["rate_bytes"]),
                rate_window_us=number("rate_window_us", full["rate_window_us"]),
                forwards=tuple(map(Forward.from_mapping, items("forwards", full["forwards"]))),
                name=text("name", full["name"]),
                multiqueue=number("multiqueue", full["multiqueue"]),
                anti_spoofing=truth("anti_spoofing", full["anti_spoofing"]),
            )


def with_macs(vifs: tuple[Vif, ...], uuid: str) -> tuple[Vif, ...]:
    """The same interfaces, each with a MAC: those without one get one made of the domain's UUID and their place."""
    used = {vif.mac for vif in vifs if vif.mac}
    found = []
    for index, vif in enumerate(vifs):
        attempt = 0
        mac = vif.mac or default_mac(uuid, index)
        while not vif.mac and mac in used:
            attempt += 1
            mac = default_mac(uuid, index, attempt)
        used.add(mac)
        found.append(replace(vif, mac=mac))
    return tuple(found)


def address(word: str) -> str:
    """An IPv4 or IPv6 address as it is usually written; ConfigError."""
    from ipaddress import ip_address

    try:
        return str(ip_address(word if "%" not in word else ""))
    except ValueError:
        raise ConfigError(f"{shown(word)} is no IP address without a prefix length", key="ip") from None


def check_forwards(forwards: Iterable[Forward]) -> None:
    """Raise `ConfigError` if two of them want the same port of the host's, or there are too many."""
    taken: set[tuple[str, str, int]] = set()
    for count, forward in enumerate(forwards, 1):
        place = (forward.protocol, forward.host_address, forward.host_port)
        if place in taken:
            raise ConfigError(
                f"{forward.protocol} port {forward.host_port} of {forward.host_address} is forwarded twice",
                key="forward",
            )
        if count > FORWARDS_MAX:
            raise ConfigError(f"there are more than {FORWARDS_MAX} forwarded ports", key="forward")
        taken.add(place)


def _check_network(vif: Vif) -> None:
    kind, name = vif.attachment, vif.network
    if kind is Attachment.USER:
        if name:
            raise ConfigError(f"the user network has no name: leave {shown(name)} out", key="network")
    elif not (DEVICE_NAME if kind is Attachment.BRIDGE else _NETWORK).fullmatch(name):
        what = {
            Attachment.BRIDGE: "a bridge's name of at most 15 characters",
            Attachment.ISOLATED: "a name of at most 32 letters, digits and _ . -",
            Attachment.NETWORK: "the name of a network of xend.toml",
        }[kind]
        raise ConfigError(f"{kind} must be {what}, not {shown(name)}", key="network")


def _check_addresses(addresses: tuple[str, ...]) -> None:
    if len(addresses) > ADDRESSES_MAX:
        raise ConfigError(f"ip gives more than {ADDRESSES_MAX} addresses: shorten it", key="ip")
    for word in addresses:
        if address(word) != word:
            raise ConfigError(f"ip must be written as {address(word)}, not {shown(word)}", key="ip")
    if len(set(addresses)) < len(addresses):
        raise ConfigError("ip gives an address twice: keep one", key="ip")
