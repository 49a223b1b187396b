"""What a domain's process tells of its devices and vCPUs. It may be its guest's: what makes no sense is left out."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from xenion.abi.io.xenbus import XenbusState
from xenion.api import types as t
from xenion.api.errors import ApiError
from xenion.config.devices import DISKS_MAX, VIFS_MAX
from xenion.config.domain import VCPUS_MAX
from xenion.xend.entries import VBD, VIF
from xenion.xend.live import Live
from xenion.xend.logstate import clean

ANSWER_S = 10.0
PEER_CHARACTERS = 64
_STATES = {state.name: state.name.lower() for state in XenbusState if state <= XenbusState.Closed}
_BIGGEST = 1 << 53
_MOST = DISKS_MAX + VIFS_MAX + 1


@dataclass(frozen=True, slots=True)
class Told:
    """One device. `state` is the back end's, as the API has it."""

    state: Any = "unknown"
    peer: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)

    def count(self, name: str) -> int:
        """0 for what was not told."""
        return self.counts.get(name, 0)


NOTHING = Told()
"""Of a device without a process."""

Devices = Mapping[tuple[str, int], Told]
"""By kind and number."""


async def devices(live: Live, timeout: float | None = None) -> Devices:
    """ApiError: the process does not answer, in the usual time or in `timeout`."""
    return parse(await live.ask("devices", timeout=ANSWER_S if timeout is None else timeout))


def parse(answer: Mapping[str, Any]) -> Devices:
    """As `devices`, from the answer."""
    said = answer.get("devices")
    found = {}
    for device in said[:_MOST] if isinstance(said, list) else ():
        if not isinstance(device, dict):
            continue
        kind, devid = device.get("kind"), device.get("devid")
        if kind in (VBD, VIF) and type(devid) is int:
            found[kind, devid] = _told(device)
    return found


def _told(device: Mapping[str, Any]) -> Told:
    state, peer = device.get("state"), device.get("peer")
    return Told(
        state=_STATES.get(state, "unknown") if isinstance(state, str) else "unknown",
        peer=clean(peer, PEER_CHARACTERS) if isinstance(peer, str) else "",
        counts={name: count(device, name) for name in device},
    )


def count(answer: Mapping[str, Any], name: str) -> int:
    """A number that was told; 0 for what is none."""
    value = answer.get(name)
    return value if type(value) is int and 0 <= value < _BIGGEST else 0


async def vcpus(live: Live) -> list[tuple[str, float]]:
    """The state and CPU seconds of each; of a process that does not answer: offline, all of them."""
    with suppress(ApiError):
        return parse_vcpus(await live.ask("vcpus", timeout=ANSWER_S), live.record.config.most_vcpus)
    return parse_vcpus({}, live.record.config.most_vcpus)


def parse_vcpus(answer: Mapping[str, Any], count: int) -> list[tuple[str, float]]:
    """As `vcpus`, from the answer; `count` of them if it tells of none."""
    said = answer.get("vcpus")
    told = said[:VCPUS_MAX] if isinstance(said, list) and said else [{}] * count
    return [_vcpu(vcpu) for vcpu in told]


def _vcpu(said: Any) -> tuple[str, float]:
    about: Mapping[str, Any] = said if isinstance(said, dict) else {}
    state, seconds = about.get("state"), about.get("cpu_seconds")
    known = isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 <= seconds < _BIGGEST
    return (
        str(state) if state in ("running", "blocked", "paused") else "offline",
        float(seconds) if known and seconds is not None else 0.0,
    )


def traffic(told: Devices) -> t.Traffic:
    """All devices together."""
    disks = [told for (kind, _), told in told.items() if kind == VBD]
    vifs = [told for (kind, _), told in told.items() if kind == VIF]
    return {
        "vbds": len(disks),
        "vbd_rd": sum(disk.count("rd_req") for disk in disks),
        "vbd_wr": sum(disk.count("wr_req") for disk in disks),
        "nets": len(vifs),
        "net_tx_bytes": sum(vif.count("tx_bytes") for vif in vifs),
        "net_rx_bytes": sum(vif.count("rx_bytes") for vif in vifs),
    }
