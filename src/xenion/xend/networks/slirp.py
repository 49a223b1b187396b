"""libslirp, in a process of ours: joins a guest's network to the host's sockets where passt cannot run."""

import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from xenion.config.vif import Vif
from xenion.xend import helpers
from xenion.xend.helpers import Helper
from xenion.xend.networks.defined import UserNetwork
from xenion.xend.networks.place import VifPlace, cannot
from xenion.xend.tail import Tail

if TYPE_CHECKING:
    from xenion.xend.networks.user import Lan

PROGRAM = (sys.executable, "-m", "xenion.dom0.net.slirp")
MTU = 65520
_SPEAKER = "user-mode networking: "


async def start(vif: Vif, lan: "Lan", place: VifPlace, fd: int, chosen: UserNetwork) -> Helper:
    """On its end `fd` of a stream socket; it is ready. ApiError."""
    said = Tail(place.said)
    ready, theirs = os.pipe()
    try:
        try:
            helper = helpers.start(
                f"slirp of {place.name}'s interface {place.devid}",
                [*PROGRAM, *_words(vif, lan, fd, chosen), "--ready", str(theirs)],
                works_for=place.run,
                said=place.said,
                pass_fds=(fd, theirs),
            )
        finally:
            os.close(theirs)
        try:
            is_ready = await helpers.told(ready)
        except BaseException:
            await helper.end()
            raise
    finally:
        os.close(ready)
    if not is_ready:
        await helper.end()
        raise cannot(place, f"libslirp does not start: {_reason(said)}")
    return helper


def _words(vif: Vif, lan: "Lan", fd: int, chosen: UserNetwork) -> Iterator[str]:
    yield from ("--fd", str(fd), "--network", str(lan.network), "--address", str(lan.guest))
    yield from ("--gateway", str(lan.gateway), "--dns", str(lan.dns), "--mtu", str(MTU))
    if not chosen.host_loopback:
        yield "--no-host-loopback"
    for forward in vif.forwards:
        where = f"{forward.protocol}:{forward.host_address}:{forward.host_port}:{forward.guest_port}"
        yield from ("--forward", where)


def _reason(said: Tail) -> str:
    lines = said.read().strip().splitlines()
    return lines[-1].removeprefix(_SPEAKER) if lines else "it ended without a word"
