"""The user network: the guest's own, joined to the host's through ordinary sockets by passt, or by libslirp where passt
cannot run. No root is needed.

The guest is 10.0.2.15, or the first IPv4 address of `ip=`; its gateway is the second address of that /24, and its name
server the third with libslirp, the host's own with passt.
"""

import socket
from contextlib import closing
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, ip_address
from itertools import islice

from xenion.api.errors import ApiError
from xenion.config.vif import Vif
from xenion.dom0.net.stream_wire import widen
from xenion.xend.helpers import Helper
from xenion.xend.networks import dns, forwards, passt, slirp
from xenion.xend.networks.defined import UserNetwork
from xenion.xend.networks.place import Plugged, VifPlace, cannot, description

PREFIX = 24
GUEST = IPv4Interface(f"10.0.2.15/{PREFIX}")


@dataclass(frozen=True, slots=True)
class Lan:
    """Addresses of the network of one guest."""

    guest: IPv4Address
    gateway: IPv4Address
    dns: IPv4Address
    network: IPv4Network

    @classmethod
    def of(cls, vif: Vif, place: VifPlace) -> "Lan":
        """ApiError."""
        given = [address for address in map(ip_address, vif.addresses) if isinstance(address, IPv4Address)]
        guest = IPv4Interface(f"{given[0]}/{PREFIX}") if given else GUEST
        if guest.ip in (guest.network.network_address, guest.network.broadcast_address):
            raise cannot(place, f"ip={guest.ip} is no host's address in {guest.network}: choose another one")
        gateway, dns = [host for host in islice(guest.network.hosts(), 1, 4) if host != guest.ip][:2]
        return cls(guest.ip, gateway, dns, guest.network)


async def plug(vif: Vif, place: VifPlace, chosen: UserNetwork) -> Plugged:
    """ApiError."""
    for forward in vif.forwards:
        forwards.check_free(forward, place)
    ours, theirs = socket.socketpair()
    with closing(theirs):
        widen(ours)
        widen(theirs)
        made = Plugged({}, [ours.detach()])
        try:
            await _start(vif, place, chosen, made, theirs.fileno())
        except BaseException:
            made.close()
            raise
    return made


async def _start(vif: Vif, place: VifPlace, chosen: UserNetwork, made: Plugged, theirs: int) -> None:
    lan, why = Lan.of(vif, place), ""
    if chosen.program != "slirp":
        started = await _start_passt(vif, lan, place, theirs, chosen)
        if not isinstance(started, str):
            made.helpers.append(started)
            made.description = description(
                vif, place, "passt", passt.MTU, kind="stream", acknowledge_syn_ack=True
            )
            return
        if chosen.program == "passt":
            raise cannot(place, f"passt cannot be used: {started}")
        why = f"interface {place.devid} uses libslirp, which is slower than passt: {started}"
    try:
        made.helpers.append(await slirp.start(vif, lan, place, theirs, chosen))
    except ApiError as error:
        raise ApiError(error.code, f"{error.message}; {why}") if why else error from error
    made.description = description(vif, place, "slirp", slirp.MTU, kind="stream")
    made.notes += [why] if why else []


async def _start_passt(vif: Vif, lan: Lan, place: VifPlace, theirs: int, chosen: UserNetwork) -> Helper | str:
    if chosen.program == "auto" and dns.only_on_loopback():
        return "the host's name server listens on its loopback only, where passt does not lead"
    return await passt.start(vif, lan, place, theirs, chosen)
