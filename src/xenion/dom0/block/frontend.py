"""What a front end's nodes ask for (public/io/blkif.h: Frontend XenBus Nodes)."""

from collections.abc import Mapping

from xenion.abi.io.blkif import PROTOCOL_X86_64
from xenion.dom0.block.slots import SLOTS, Slots
from xenion.dom0.xenbus.backend import FrontendError

MAX_RING_PAGE_ORDER = 4
MAX_QUEUES = 4


class NodeError(FrontendError):
    """A node is missing or holds what it must not."""

    def __init__(self, name: str, value: str | None, wanted: str) -> None:
        found = "is missing" if value is None else f"holds {value[:40]!a}"
        super().__init__(f'the front end\'s node "{name}" {found}, it has to be {wanted}')


class Frontend:
    """Checked: `rings` has for each queue its event channel and the grant references of its ring."""

    def __init__(self, nodes: Mapping[str, str]) -> None:
        protocol = nodes.get("protocol", PROTOCOL_X86_64)
        if protocol not in SLOTS:
            raise NodeError("protocol", protocol, " or ".join(SLOTS))
        self.slots: Slots = SLOTS[protocol]
        self.persistent = number(nodes, "feature-persistent", 1, default=0) == 1
        order = number(nodes, "ring-page-order", MAX_RING_PAGE_ORDER, default=0)
        queues = number(nodes, "multi-queue-num-queues", MAX_QUEUES, least=1, default=1)
        folders = [f"queue-{index}/" for index in range(queues)] if queues > 1 else [""]
        self.rings = [
            (number(nodes, folder + "event-channel", 0xFFFF_FFFF), _ring_refs(nodes, folder, 1 << order))
            for folder in folders
        ]


def _ring_refs(nodes: Mapping[str, str], folder: str, pages: int) -> list[int]:
    """A ring of one page may be given by either name."""
    if pages == 1 and folder + "ring-ref0" not in nodes:
        return [number(nodes, folder + "ring-ref", 0xFFFF_FFFF)]
    return [number(nodes, f"{folder}ring-ref{index}", 0xFFFF_FFFF) for index in range(pages)]


def number(
    nodes: Mapping[str, str], name: str, most: int, *, least: int = 0, default: int | None = None
) -> int:
    """A decimal number; NodeError."""
    value = nodes.get(name)
    if value is None and default is not None:
        return default
    if value is None or not (value.isascii() and value.isdigit() and len(value) <= 10):
        raise NodeError(name, value, "a decimal number")
    if not least <= int(value) <= most:
        raise NodeError(name, value, f"from {least} to {most}")
    return int(value)
