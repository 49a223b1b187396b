"""What a netif front end wrote to its nodes (public/io/netif.h), checked."""

from collections.abc import Mapping
from dataclasses import dataclass

from xenion.abi.io.netif import XEN_NETIF_GSO_TYPE_TCPV4, XEN_NETIF_GSO_TYPE_TCPV6
from xenion.dom0.xenbus.backend import FrontendError

_WORD = 1 << 32


class MissingNodeError(FrontendError):
    def __init__(self, path: str) -> None:
        super().__init__(f"the front end did not write {path}: it does not speak the netif protocol")


class NodeValueError(FrontendError):
    def __init__(self, path: str, value: str) -> None:
        super().__init__(f"the front end wrote {value[:40]!r} to {path}: a number below 2**32 is expected")


class QueueCountError(FrontendError):
    def __init__(self, wanted: int, most: int) -> None:
        super().__init__(f"the front end asks for {wanted} queues: 1 to {most} were offered")


class RxFlipError(FrontendError):
    def __init__(self) -> None:
        super().__init__(
            "the front end did not write request-rx-copy = 1: receiving by page flipping is not offered"
        )


@dataclass(frozen=True, slots=True)
class QueueNodes:
    """Grant references of its rings and its event channels' ports; one port for both without a split."""

    tx_ref: int
    rx_ref: int
    tx_port: int
    rx_port: int


@dataclass(frozen=True, slots=True)
class Features:
    """What the front end can take."""

    sg: bool
    """Frames longer than a page."""
    gso: frozenset[int]
    """XEN_NETIF_GSO_TYPE_*."""
    csum_v4: bool
    csum_v6: bool
    """Blank checksums in IPv4, IPv6."""
    rx_notify: bool
    """It notifies when it adds receive buffers."""
    multicast_control: bool
    """It adds the multicast addresses that it wants."""


def features_of(front: Mapping[str, str]) -> Features:
    """FrontendError: it does not want copies."""

    def says(name: str, otherwise: int = 0) -> bool:
        return bool(_number(front, name, otherwise))

    if not says("request-rx-copy"):
        raise RxFlipError
    gso = {XEN_NETIF_GSO_TYPE_TCPV4: "feature-gso-tcpv4", XEN_NETIF_GSO_TYPE_TCPV6: "feature-gso-tcpv6"}
    return Features(
        sg=says("feature-sg"),
        gso=frozenset(kind for kind, name in gso.items() if says(name)),
        csum_v4=not says("feature-no-csum-offload"),
        csum_v6=says("feature-ipv6-csum-offload"),
        rx_notify=says("feature-rx-notify"),
        multicast_control=says("request-multicast-control"),
    )


def queues_of(front: Mapping[str, str], most: int) -> list[QueueNodes]:
    """FrontendError."""
    count = _number(front, "multi-queue-num-queues", 1)
    if not 1 <= count <= most:
        raise QueueCountError(count, most)
    if count == 1:
        return [_queue(front, "")]
    return [_queue(front, f"queue-{index}/") for index in range(count)]


def _queue(front: Mapping[str, str], below: str) -> QueueNodes:
    tx_port, rx_port = (f"{below}event-channel-{way}" for way in ("tx", "rx"))
    if tx_port not in front or rx_port not in front:
        tx_port = rx_port = f"{below}event-channel"
    return QueueNodes(
        *(_number(front, p) for p in (f"{below}tx-ring-ref", f"{below}rx-ring-ref", tx_port, rx_port))
    )


def _number(front: Mapping[str, str], path: str, otherwise: int | None = None) -> int:
    text = front.get(path)
    if text is None:
        if otherwise is None:
            raise MissingNodeError(path)
        return otherwise
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) < _WORD):
        raise NodeValueError(path, text)
    return int(text)
