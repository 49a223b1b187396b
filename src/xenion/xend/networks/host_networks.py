"""Makes the networks of xend.toml when the first interface is plugged in, and takes them away after the last one.

Whether somebody still uses a network is asked of the kernel: its bridge has ports or has none. What the kernel does not
know is in RUN/networks/NAME.json: where forwarding was switched on, and dnsmasq.
"""

import hashlib
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from xenion.xend import helpers
from xenion.xend.helpers import Helper
from xenion.xend.networks import dhcp, firewall, links
from xenion.xend.networks.defined import Kind, Network
from xenion.xend.networks.links import Link, Links
from xenion.xend.storage import private_folder, read_json, write_json


class NetworkError(Exception):
    """The network cannot be made; the sentence goes on from its name."""


@dataclass(slots=True)
class Made:
    """What xend has done for a network. `hosts`: addresses that were promised, by MAC."""

    uplink: str = ""
    switched_on: bool = False
    """Forwarding from the uplink was off before."""
    hosts: dict[str, str] = field(default_factory=dict)
    served: dict[str, str] = field(default_factory=dict)
    """`hosts` as the DHCP server knows them."""
    helper: dict[str, Any] | None = None

    @property
    def server(self) -> Helper | None:
        try:
            return None if self.helper is None else Helper.from_mapping(self.helper)
        except ValueError:
            return None


class HostNetworks:
    """`run`: xend's run folder. One call at a time; those that are no coroutines block and are for a thread."""

    def __init__(self, run: Path) -> None:
        self._run = run
        self._folder = run / "networks"

    # --- devices

    def ensure(self, network: Network) -> tuple[Link, list[str]]:
        """Its bridge, and notes. NetworkError, FirewallError, OSError."""
        with links.opened() as host:
            bridge = host.find(network.bridge)
            if network.kind is Kind.BRIDGE:
                return existing(bridge, network.bridge), []
            if bridge is None:
                bridge = host.add_bridge(network.bridge, self._mac(network))
            elif bridge.kind != "bridge" or bridge.mac != self._mac(network):
                raise NetworkError(
                    f"there is a device {network.bridge} that is not xend's: remove or rename it"
                )
            notes = self._set_up(host, network, bridge)
        return bridge, notes

    def _mac(self, network: Network) -> str:
        """By which a bridge is known as this xend's, from the moment that it is there; locally administered."""
        digest = hashlib.sha256(f"{self._run}\0{network.name}".encode()).digest()
        return ":".join(f"{byte:02x}" for byte in (2, *digest[:5]))

    def _set_up(self, host: Links, network: Network, bridge: Link) -> list[str]:
        """Everything again, whatever was there: what a killed xend had left undone, too."""
        links.without_ipv6(bridge.name)
        leads_outside = network.kind in (Kind.NAT, Kind.ROUTED)
        if network.address is not None:
            firewall.apply(firewall.rules(network))
        links.forward(bridge.name, leads_outside)
        notes = self._open_uplink(host, network) if leads_outside else []
        host.address(bridge.index, network.address)
        return notes

    def _open_uplink(self, host: Links, network: Network) -> list[str]:
        uplink = network.uplink or host.default_device()
        if not uplink:
            return [
                f"network {network.name} leads nowhere, for the host has no default route: set its uplink"
            ]
        if host.find(uplink) is None:
            raise NetworkError(f"its uplink {uplink} does not exist: correct it in xend.toml")
        made = self.read(network)
        if made.uplink not in ("", uplink):
            self._close_uplink(host, network)
            made.switched_on = False
        made.uplink = uplink
        notes = []
        if not links.forwards(uplink):
            made.switched_on = True
            notes = [f"network {network.name}: the host forwards packets that come in by {uplink} now"]
        self._write(network, made)  # before it is done, so that it can be undone
        links.forward(uplink, on=True)
        return notes

    def is_idle(self, network: Network) -> bool:
        """Whether there is something of it and nobody uses it. OSError."""
        with links.opened() as host:
            bridge = host.find(network.bridge)
            if bridge is None:
                return self._file(network).exists()
            return bridge.mac == self._mac(network) and not host.ports(bridge.index)

    def remove(self, network: Network) -> None:
        """What `ensure` has made; the bridge last, so that a kill leaves it to be seen. FirewallError, OSError."""
        with links.opened() as host:
            if network.address is not None:
                firewall.apply(firewall.removal(network))
            self._close_uplink(host, network)
            bridge = host.find(network.bridge)
            if bridge is not None and bridge.mac == self._mac(network):
                host.remove(bridge.index)
        for path in self._folder.glob(f"{network.name}.*"):
            path.unlink(missing_ok=True)

    def _close_uplink(self, host: Links, network: Network) -> None:
        """Another network that needs it takes it over, and switches it off in its turn."""
        made = self.read(network)
        if not made.switched_on:
            return
        for path in sorted(self._folder.glob("*.json")):
            other = _read(path)
            if path.stem != network.name and other.uplink == made.uplink and host.find(f"xn-{path.stem}"):
                other.switched_on = True
                write_json(path, asdict(other))
                return
        if host.find(made.uplink) is not None:
            links.forward(made.uplink, on=False)

    # --- addresses

    async def serve(self, network: Network, mac: str, ip: str) -> list[str]:
        """DHCP where it is wanted, with `ip` promised to `mac` unless it is ""; notes. ApiError, OSError."""
        if not network.dhcp:
            return []
        made = self.read(network)
        if ip:
            made.hosts[mac] = ip
        known = made.server
        if known is not None and known.alive and made.hosts == made.served:
            return []
        await self.stop_serving(network)
        started = await dhcp.start(network, self._folder, made.hosts)
        if isinstance(started, str):
            made.helper = None
            self._write(network, made)
            return [
                f"network {network.name} hands out no addresses: {started}; or give them by hand in its guests"
            ]
        made.helper, made.served = started.to_mapping(), dict(made.hosts)
        self._write(network, made)
        return []

    def release(self, network: Network, mac: str) -> None:
        """An address that was promised to an interface that is gone. OSError."""
        made = self.read(network)
        if made.hosts.pop(mac, None) is not None:
            self._write(network, made)

    async def stop_serving(self, network: Network) -> None:
        """Also one that a killed xend has not written down. ApiError (failed)."""
        known = self.read(network).server
        for helper in (*([known] if known else []), *helpers.strays(dhcp.mark(network, self._folder), ())):
            await helper.end()

    # --- the file

    def read(self, network: Network) -> Made:
        return _read(self._file(network))

    def _write(self, network: Network, made: Made) -> None:
        private_folder(self._folder)
        write_json(self._file(network), asdict(made))

    def _file(self, network: Network) -> Path:
        return self._folder / f"{network.name}.json"


def existing(bridge: Link | None, name: str) -> Link:
    """A bridge that the host has. NetworkError."""
    if bridge is None:
        raise NetworkError(f"there is no bridge {name} on the host: make it, or correct its name")
    if bridge.kind != "bridge":
        raise NetworkError(f"the host's {name} is no bridge: correct its name")
    return bridge


def _read(path: Path) -> Made:
    with suppress(OSError, ValueError, TypeError):
        return Made(**read_json(path))
    return Made()
