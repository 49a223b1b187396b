"""One virtual network interface of a domain, as its configuration gives it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Vif:
    """`mac` is in lower case with colons, or "" for one that is made when the domain is created."""

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
