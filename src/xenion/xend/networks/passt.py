"""passt: joins a guest's network to the host's sockets, from a process without rights, and ends with its connection."""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from xenion.config.vif import Forward, Vif
from xenion.xend import helpers
from xenion.xend.helpers import Helper
from xenion.xend.networks import dns
from xenion.xend.networks.defined import UserNetwork
from xenion.xend.networks.place import VifPlace

if TYPE_CHECKING:
    from xenion.xend.networks.user import Lan

PROGRAM = "passt"
MTU = 65520
"""Of the guest, by DHCP: the larger, the faster."""
_CHATTER = ("Failed to send ", "Don't run as root")


async def start(vif: Vif, lan: "Lan", place: VifPlace, fd: int, chosen: UserNetwork) -> Helper | str:
    """On its end `fd` of a stream socket; why it cannot, if it cannot. ApiError."""
    if not helpers.installed(PROGRAM):
        return f"passt is not installed: apt-get install {helpers.PACKAGES[PROGRAM]}"
    pid_file, log = (place.run / f"vif{place.devid}.{PROGRAM}.{kind}" for kind in ("pid", "log"))
    made = await helpers.start_daemon(
        f"{PROGRAM} of {place.name}'s interface {place.devid}",
        [
            helpers.find(PROGRAM),
            *_words(vif, lan, fd, chosen),
            "--pid",
            str(pid_file),
            "--log-file",
            str(log),
        ],
        pid_file=pid_file,
        works_for=place.run,
        pass_fds=(fd,),
    )
    return _reason(made) if isinstance(made, str) else made


def _words(vif: Vif, lan: "Lan", fd: int, chosen: UserNetwork) -> Iterator[str]:
    yield from ("--fd", str(fd), "--ipv4-only", "--mtu", str(MTU))
    if not chosen.host_loopback:
        yield "--no-map-gw"
    yield from (
        "--address",
        str(lan.guest),
        "--netmask",
        str(lan.network.prefixlen),
        "--gateway",
        str(lan.gateway),
    )
    for server in dns.name_servers() or ("",):
        yield from ("--dns", str(server))
    for option, protocol in (("--tcp-ports", "tcp"), ("--udp-ports", "udp")):
        found = [_port(forward) for forward in vif.forwards if forward.protocol == protocol]
        for word in found or ["none"]:
            yield from (option, word)
    if os.geteuid() == 0:
        yield from ("--runas", "0:0")  # else it becomes nobody, who cannot write into the run folder


def _port(forward: Forward) -> str:
    return f"{forward.host_address}/{forward.host_port}:{forward.guest_port}"


def _reason(said: str) -> str:
    """Its last words; before them it tells what it has found out."""
    lines = [line for line in said.splitlines() if line and not line.startswith(_CHATTER)]
    return lines[-1] if lines else "it ended without a word"
