"""The host's network devices, through rtnetlink. Everything blocks for milliseconds, and needs root (CAP_NET_ADMIN).

pyroute2 is imported when it is needed first: it takes a quarter of a second, which belongs into a thread.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Any

SYSCTL = Path("/proc/sys/net")
PORT_MAC = "fe:ff:ff:ff:ff:ff"
"""Of the host's end of an interface, as Xen's scripts set it: a bridge takes its lowest port's address, never this."""


@dataclass(frozen=True, slots=True)
class Link:
    index: int
    name: str
    kind: str
    mtu: int
    mac: str


class Links:
    """A connection to the kernel, `with opened() as links`. Methods raise OSError."""

    def __init__(self, route: Any) -> None:
        self._route = route

    def find(self, name: str) -> Link | None:
        found = self._route.link_lookup(ifname=name)
        return self._link(self._route.get_links(found[0])[0]) if found else None

    def _link(self, said: Any) -> Link:
        info = said.get_attr("IFLA_LINKINFO")
        kind = info.get_attr("IFLA_INFO_KIND") if info is not None else ""
        name, mtu, mac = (said.get_attr(f"IFLA_{what}") for what in ("IFNAME", "MTU", "ADDRESS"))
        return Link(said["index"], name, kind or "", mtu or 0, mac or "")

    def ports(self, bridge: int) -> list[str]:
        """The names of the devices that are attached to it."""
        links = self._route.get_links()
        return [link.get_attr("IFLA_IFNAME") for link in links if link.get_attr("IFLA_MASTER") == bridge]

    def add_bridge(self, name: str, mac: str) -> Link:
        """Down."""
        self._route.link("add", ifname=name, kind="bridge", br_stp_state=0, br_forward_delay=0, address=mac)
        made = self.find(name)
        if made is None:
            raise FileNotFoundError(2, "it went away as soon as it was made", name)
        return made

    def address(self, bridge: int, address: IPv4Interface | None) -> None:
        """The one address that the bridge has from now on, and up."""
        there = {
            (said.get_attr("IFA_ADDRESS"), said["prefixlen"])
            for said in self._route.get_addr(index=bridge, family=2)
        }
        wanted = set() if address is None else {(str(address.ip), address.network.prefixlen)}
        for ip, prefix in there - wanted:
            self._route.addr("delete", index=bridge, address=ip, prefixlen=prefix)
        for ip, prefix in wanted - there:
            self._route.addr("add", index=bridge, address=ip, prefixlen=prefix)
        self._route.link("set", index=bridge, state="up")

    def attach(self, port: int, bridge: Link) -> None:
        """And up."""
        self._route.link("set", index=port, address=PORT_MAC, mtu=bridge.mtu, master=bridge.index)
        self._route.link("set", index=port, state="up")

    def remove(self, index: int) -> None:
        """One that is gone is fine."""
        if index in {link["index"] for link in self._route.get_links()}:
            self._route.link("del", index=index)

    def default_device(self) -> str:
        """What the IPv4 default route leads through; "" if there is none."""
        routes = self._route.get_default_routes(family=2)
        routes = sorted(routes, key=lambda route: route.get_attr("RTA_PRIORITY") or 0)
        devices = [route.get_attr("RTA_OIF") for route in routes if route.get_attr("RTA_OIF")]
        return str(self._route.get_links(devices[0])[0].get_attr("IFLA_IFNAME")) if devices else ""


@contextmanager
def opened() -> Iterator[Links]:
    """Not on a thread that runs an event loop. OSError, from the block too."""
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    with IPRoute() as route:
        try:
            yield Links(route)
        except NetlinkError as error:
            raise OSError(error.code, os.strerror(error.code)) from error


def forwards(device: str) -> bool:
    """Whether IPv4 packets that come in by the device are routed. OSError."""
    return _forwarding(device).read_text().strip() != "0"


def forward(device: str, on: bool) -> None:
    """OSError."""
    _forwarding(device).write_text("1" if on else "0")


def _forwarding(device: str) -> Path:
    return SYSCTL / "ipv4/conf" / device / "forwarding"


def without_ipv6(device: str) -> None:
    """The host itself does not speak IPv6 on it. OSError."""
    path = SYSCTL / "ipv6/conf" / device / "disable_ipv6"
    if path.exists():
        path.write_text("1")
