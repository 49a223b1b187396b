"""What a vif and its wire are, as a domain process is told: plain data that goes through JSON."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class NetOptions:
    """`mac` is lower case with colons; `addresses` are without a prefix length, empty: any."""

    mac: str
    addresses: tuple[str, ...] = ()
    anti_spoofing: bool = True
    rate_bytes: int = 0
    """Bytes a second that the guest may send; 0: no limit."""
    rate_window_us: int = 50_000
    queues: int = 1
    """Offered at most."""
    mtu: int = 1500
    """The network's, in bytes of IP packet. TCP frames that are longer are segments still to be cut."""

    def describe(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, description: Mapping[str, Any]) -> "NetOptions":
        """The reverse of `describe`, after a trip through JSON."""
        return cls(**{**description, "addresses": tuple(description.get("addresses", ()))})


@dataclass(frozen=True, slots=True, kw_only=True)
class WireOptions:
    """`kind` stream: a Unix stream socket, each frame after its length (4 bytes, big endian), as passt, QEMU, our
    switch and our slirp speak. `kind` tap: a TAP descriptor (IFF_NO_PI, IFF_VNET_HDR, header size 12, offloads set).
    """

    kind: str
    fd: int
    big: bool = True
    """stream: the other side takes frames of any length, whatever the MTU."""
    acknowledge_syn_ack: bool = False
    """stream: for passt; see xenion.dom0.net.handshake."""

    def describe(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, description: Mapping[str, Any]) -> "WireOptions":
        """The reverse of `describe`, after a trip through JSON."""
        return cls(**description)
