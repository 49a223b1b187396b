"""Plugs interfaces in for a domain process, which opens nothing itself, and pulls them out again, also those that a
killed xend has plugged in."""

import asyncio
import errno
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xenion.api.errors import ApiError
from xenion.config.vif import Attachment, Vif
from xenion.xend.networks import isolated, links, tap, user
from xenion.xend.networks.defined import Network, UserNetwork
from xenion.xend.networks.firewall import FirewallError
from xenion.xend.networks.host_networks import HostNetworks, NetworkError, existing
from xenion.xend.networks.links import Link
from xenion.xend.networks.place import Plugged, VifPlace, cannot, description
from xenion.xend.threads import in_thread, to_its_end

DEFAULT = UserNetwork()


class Networks:
    """`run`: xend's run folder; `defined`: the networks of xend.toml; `user_network`: how it is made."""

    def __init__(
        self, run: Path, defined: Mapping[str, Network], user_network: UserNetwork = DEFAULT
    ) -> None:
        self._run = run
        self.defined = defined
        self._user_network = user_network
        self._host = HostNetworks(run)
        self._turn = asyncio.Lock()

    async def plug(self, vif: Vif, place: VifPlace) -> Plugged:
        """`vif` has its MAC. ApiError; nothing is left open or running then."""
        match vif.attachment:
            case Attachment.USER:
                return await user.plug(vif, place, self._user_network)
            case Attachment.ISOLATED:
                async with self._turn:
                    return await in_thread(lambda: isolated.plug(vif, place, self._run), Plugged.close)
            case Attachment.BRIDGE | Attachment.NETWORK:
                return await to_its_end(self._plug_device(vif, place), self.abandon)

    async def abandon(self, plugged: Plugged) -> None:
        """Of a domain that does not come to be. ApiError (failed)."""
        plugged.close()
        while plugged.helpers:
            await plugged.helpers.pop().end()
        await self.unplug(plugged.undo)

    async def unplug(self, undo: Mapping[str, Any]) -> None:
        """`undo` of a Plugged, also of an earlier xend's; when the domain process has closed its descriptors.

        Again is fine. ApiError (failed).
        """
        if "device" in undo:
            async with self._turn:
                await self._unplug_device(undo)

    # --- devices of the host's

    async def _plug_device(self, vif: Vif, place: VifPlace) -> Plugged:
        network = self._network(vif, place)
        async with self._turn:
            return await self._make_device(vif, place, network)

    async def _make_device(self, vif: Vif, place: VifPlace, network: Network | None) -> Plugged:
        name = vif.name or f"vif{place.domid}.{place.devid}"
        try:
            bridge, notes = await asyncio.to_thread(self._bridge, vif, network)
            fd = tap.open_tap(name)
        except (OSError, NetworkError, FirewallError) as error:
            await self._clean_up(network)
            raise self._refusal(vif, place, name, error) from error
        made = Plugged({}, [fd], notes=notes)
        try:
            made.undo = await asyncio.to_thread(_attach, name, bridge)
            made.undo |= {"network": network.name if network else "", "mac": vif.mac}
            made.description = description(vif, place, "bridge", bridge.mtu, kind="tap")
            if network is not None:
                made.notes += await self._host.serve(network, vif.mac, _own_address(vif, network, place))
        except BaseException as error:
            made.close()
            await self._clean_up(network)
            if isinstance(error, OSError):
                raise self._refusal(vif, place, name, error) from error
            raise
        return made

    def _network(self, vif: Vif, place: VifPlace) -> Network | None:
        """None: `vif` names a bridge."""
        if vif.attachment is Attachment.BRIDGE:
            return None
        found = self.defined.get(vif.network)
        if found is None:
            known = f"there is {', '.join(self.defined)}" if self.defined else "it defines none"
            raise cannot(place, f"xend.toml has no [networks.{vif.network}]: {known}")
        return found

    def _bridge(self, vif: Vif, network: Network | None) -> tuple[Link, list[str]]:
        """Blocks. NetworkError, FirewallError, OSError."""
        if network is not None:
            return self._host.ensure(network)
        with links.opened() as host:
            return existing(host.find(vif.network), vif.network), []

    def _refusal(self, vif: Vif, place: VifPlace, name: str, error: Exception) -> ApiError:
        what = f"{vif.attachment} {vif.network}"
        if isinstance(error, FileExistsError):
            return cannot(place, f"the host has a network device {name} already: choose another vifname")
        if isinstance(error, FirewallError):
            return cannot(place, f"{what} gets no firewall rules: {error}")
        if not isinstance(error, OSError):
            return cannot(place, f"{what}: {error}")
        if error.errno in (errno.EPERM, errno.EACCES):
            instead = "let root run xend, or use the user network, which needs no rights"
            return cannot(place, f"{what} needs root, and xend is run by user {os.geteuid()}: {instead}")
        if error.errno in (errno.ENOENT, errno.ENODEV) and error.filename == tap.DEVICE:
            return cannot(place, f"{what} needs {tap.DEVICE}, which this host lacks: `modprobe tun` as root")
        return cannot(place, f"{what} cannot be set up: {error.strerror}", "failed")

    async def _unplug_device(self, undo: Mapping[str, Any]) -> None:
        network = self.defined.get(undo.get("network", ""))
        try:
            await asyncio.to_thread(_detach, undo)
            if network is not None:
                self._host.release(network, undo.get("mac", ""))
        except OSError as error:
            raise ApiError("failed", f"{undo['device']} cannot be removed: {error.strerror}") from error
        await self._clean_up(network)

    async def _clean_up(self, network: Network | None) -> None:
        """Of a network that nobody uses nothing is left. ApiError (failed)."""
        if network is None:
            return
        try:
            if await asyncio.to_thread(self._host.is_idle, network):
                await self._host.stop_serving(network)
                await asyncio.to_thread(self._host.remove, network)
        except (OSError, FirewallError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise ApiError("failed", f"network {network.name} cannot be removed: {why}") from error


def _own_address(vif: Vif, network: Network, place: VifPlace) -> str:
    """Its first IPv4 address, which must be one of the network's; "" if it has none. ApiError."""
    for word in vif.addresses:
        if ":" not in word and network.address is not None:
            from ipaddress import IPv4Address

            if IPv4Address(word) not in network.address.network:
                raise cannot(
                    place, f"ip={word} is not in {network.address.network}, the network {network.name}"
                )
            return word
    return ""


def _attach(name: str, bridge: Link) -> dict[str, Any]:
    """Blocks. What `_detach` needs. OSError."""
    with links.opened() as host:
        port = host.find(name)
        if port is None:
            raise FileNotFoundError(errno.ENODEV, "it went away as soon as it was made", name)
        links.without_ipv6(name)
        host.attach(port.index, bridge)
        return {"device": name, "index": port.index}


def _detach(undo: Mapping[str, Any]) -> None:
    """Blocks. The device went with its last descriptor, as a rule. OSError."""
    with links.opened() as host:
        port = host.find(undo["device"])
        if port is not None and port.index == undo["index"]:
            host.remove(port.index)
