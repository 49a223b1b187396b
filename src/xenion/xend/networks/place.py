"""Where an interface is plugged in, and what comes of it."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xenion.api.errors import ApiError
from xenion.config.vif import Vif
from xenion.dom0.net.options import NetOptions, WireOptions
from xenion.xend.helpers import Helper


@dataclass(frozen=True, slots=True, kw_only=True)
class VifPlace:
    """The domain, as far as one of its interfaces is concerned."""

    name: str
    domid: int
    devid: int
    run: Path
    """The domain's run folder, private: files of its helpers are put there."""
    said: int
    """The descriptor of a file that is open for appending: what helpers say goes there."""


@dataclass(slots=True)
class Plugged:
    """`description` is for the domain process, JSON-able; the descriptors that it means are `fds`.

    In it: `peer`, what is on the other end (passt, slirp, switch or bridge); `devid`; `options`, a NetOptions; `wire`,
    a WireOptions that lacks its descriptor, `fds[0]`.
    """

    description: dict[str, Any]
    fds: list[int] = field(default_factory=list)
    """Owned, until `close`."""
    helpers: list[Helper] = field(default_factory=list)
    """Programs that belong to the domain."""
    undo: dict[str, Any] = field(default_factory=dict)
    """For the record: what `Networks.unplug` needs, JSON-able."""
    notes: list[str] = field(default_factory=list)

    def close(self) -> None:
        """Once the domain process has its own; again is fine."""
        while self.fds:
            os.close(self.fds.pop())


def description(vif: Vif, place: VifPlace, peer: str, mtu: int, **wire: Any) -> dict[str, Any]:
    """What a domain process is told of an interface; `wire` as in WireOptions."""
    options = NetOptions(
        mac=vif.mac,
        addresses=vif.addresses,
        anti_spoofing=vif.anti_spoofing,
        rate_bytes=vif.rate_bytes,
        rate_window_us=vif.rate_window_us,
        queues=vif.multiqueue,
        mtu=mtu,
    )
    complete = WireOptions(fd=-1, **wire).describe()
    del complete["fd"]
    return {"peer": peer, "devid": place.devid, "options": options.describe(), "wire": complete}


def cannot(place: VifPlace, why: str, code: str = "refused") -> ApiError:
    """`why` goes on from the interface's name."""
    return ApiError(code, f"interface {place.devid} of {place.name}: {why}")
