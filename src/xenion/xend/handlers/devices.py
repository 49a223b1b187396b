"""Disks and interfaces: listed, attached, detached, changed, listened to; and the networks that there are."""

import errno
import itertools
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from xenion.api import types as t
from xenion.api.errors import ApiError
from xenion.config.disk import Disk, format_of
from xenion.config.domain import ConfigError, DomainConfig
from xenion.config.vif import Attachment, Vif
from xenion.xend.attaching import with_disk, with_vif
from xenion.xend.call import Call, Handler
from xenion.xend.live import Live
from xenion.xend.managed import Managed
from xenion.xend.networks.defined import Network
from xenion.xend.record import VBD, VIF
from xenion.xend.services import Services

SECTOR, SNAP_BYTES = 512, 262144


class Devices:
    def __init__(self, services: Services) -> None:
        self._services = services
        self._captures = itertools.count(1)

    def handlers(self) -> Mapping[str, Handler]:
        return {
            "disks": self._disks,
            "attach_disk": self._attach_disk,
            "detach_disk": self._detach_disk,
            "configure_disk": self._configure_disk,
            "interfaces": self._interfaces,
            "attach_interface": self._attach_interface,
            "detach_interface": self._detach_interface,
            "configure_interface": self._configure_interface,
            "capture": self._capture,
            "stop_capture": self._stop_capture,
            "networks": self._networks,
        }

    def _live(self, call: Call) -> Live:
        return self._services.registry.need_live(call.parameters["domain"])

    async def _described(
        self, call: Call, kind: str
    ) -> tuple[Live | Managed, DomainConfig, dict[int, dict[str, Any]]]:
        """The domain, its configuration, and what its process, if it runs, tells by device number."""
        found = self._services.registry.find(call.parameters["domain"])
        if not isinstance(found, Live):
            return found, found.config, {}
        said = (await found.ask("devices")).get("devices", []) if found.linked else []
        by_number = {device["devid"]: device for device in said if device["kind"] == kind}
        return found, found.record.config, by_number

    # --- disks

    async def _disks(self, call: Call) -> t.Disks:
        found, config, said = await self._described(call, VBD)
        disks = [disk_info(disk, said.get(disk.devid, {})) for disk in config.disks]
        return {"name": found.name, "domid": _domid(found), "disks": disks}

    async def _attach_disk(self, call: Call) -> t.DiskInfo:
        live = self._live(call)
        try:
            disk = Disk.from_mapping(call.body["disk"])
        except ConfigError as error:
            raise ApiError("bad-configuration", str(error)) from error
        await self._services.attaching.attach_disk(live, disk)
        return await self._disk_info(live, disk)

    async def _detach_disk(self, call: Call) -> t.Nothing:
        live = self._live(call)
        disk = _disk(live, call.parameters["vdev"])
        force = bool(call.query.get("force"))
        await self._services.attaching.detach(live, VBD, disk.devid, force=force)
        return {}

    async def _configure_disk(self, call: Call) -> t.DiskInfo:
        live, wanted = self._live(call), call.body
        disk, attaching = _disk(live, call.parameters["vdev"]), self._services.attaching
        if "target" in wanted:
            disk = await self._change_medium(live, disk, wanted["target"])
        if "resize_bytes" in wanted:
            await attaching.grow(live, disk, wanted["resize_bytes"])
        if "limit_bytes" in wanted or "limit_requests" in wanted:
            disk = _checked(
                disk,
                limit_bytes=wanted.get("limit_bytes", disk.limit_bytes),
                limit_requests=wanted.get("limit_requests", disk.limit_requests),
            )
            changes = {"limits": [disk.limit_bytes, disk.limit_requests]}
            config = with_disk(live.record.config, disk)
            await attaching.configure(live, VBD, disk.devid, config, changes)
        return await self._disk_info(live, disk)

    async def _change_medium(self, live: Live, disk: Disk, target: str) -> Disk:
        if not disk.cdrom:
            raise ApiError(
                "wrong-state", f"disk {disk.vdev} is no CD-ROM drive: detach it and attach another one"
            )
        disk = _checked(disk, target=target, format=format_of(target))
        await self._services.attaching.change_medium(live, disk)
        return disk

    async def _disk_info(self, live: Live, disk: Disk) -> t.DiskInfo:
        said = (await live.ask("devices")).get("devices", [])
        named = (device for device in said if (device["kind"], device["devid"]) == (VBD, disk.devid))
        return disk_info(disk, next(named, {}))

    # --- interfaces

    async def _interfaces(self, call: Call) -> t.Interfaces:
        found, config, said = await self._described(call, VIF)
        by_mac = {device["config"]["mac"]: device for device in said.values()}
        vifs = [interface_info(vif, by_mac.get(vif.mac, {}), at) for at, vif in enumerate(config.vifs)]
        return {"name": found.name, "domid": _domid(found), "interfaces": vifs}

    async def _attach_interface(self, call: Call) -> t.InterfaceInfo:
        live = self._live(call)
        try:
            vif = Vif.from_mapping(call.body["vif"])
        except ConfigError as error:
            raise ApiError("bad-configuration", str(error)) from error
        devid = await self._services.attaching.attach_vif(live, vif)
        return await self._interface_info(live, devid)

    async def _detach_interface(self, call: Call) -> t.Nothing:
        live = self._live(call)
        devid, _ = _vif(live, call.parameters["device"])
        force = bool(call.query.get("force"))
        await self._services.attaching.detach(live, VIF, devid, force=force)
        return {}

    async def _configure_interface(self, call: Call) -> t.InterfaceInfo:
        live = self._live(call)
        devid, vif = _vif(live, call.parameters["device"])
        vif = _checked(vif, rate_bytes=call.body.get("rate_bytes", vif.rate_bytes))
        changes = {"rate": [vif.rate_bytes, vif.rate_window_us]}
        config = with_vif(live.record.config, vif)
        await self._services.attaching.configure(live, VIF, devid, config, changes)
        return await self._interface_info(live, devid)

    async def _interface_info(self, live: Live, devid: int) -> t.InterfaceInfo:
        said = (await live.ask("devices")).get("devices", [])
        named = (device for device in said if (device["kind"], device["devid"]) == (VIF, devid))
        device = next(named, None)
        if device is None:
            raise ApiError("wrong-state", f"interface {devid} of {live.name} has just gone")
        return interface_info(Vif.from_mapping(device["config"]), device, devid)

    # --- captures

    async def _capture(self, call: Call) -> t.Capture:
        """Everything that passes goes to the path, a new file or a FIFO that is read, as pcap."""
        live = self._live(call)
        devid, _ = _vif(live, call.parameters["device"])
        number, fd = next(self._captures), _open_capture(call.body["path"])
        try:
            changes = {"capture": {"id": number, "snap": call.body.get("snaplen", SNAP_BYTES)}}
            await live.ask("configure-device", kind=VIF, devid=devid, changes=changes, fds=[fd])
        finally:
            os.close(fd)
        return {"capture": str(number)}

    async def _stop_capture(self, call: Call) -> t.Captured:
        live, word = self._live(call), call.parameters["capture"]
        devid, _ = _vif(live, call.parameters["device"])
        if not word.isdecimal():
            raise ApiError("bad-request", f"{word} is no number of a capture")
        changes = {"stop_capture": int(word)}
        told = await live.ask("configure-device", kind=VIF, devid=devid, changes=changes)
        return {"packets": told.get("packets", 0), "dropped": told.get("dropped", 0)}

    async def _networks(self, call: Call) -> t.Networks:
        """Those of xend.toml, and what domains that run are plugged into beside them."""
        users: dict[tuple[str, str], list[str]] = {}
        for live in self._services.registry.live.values():
            for vif in live.record.config.vifs:
                names = users.setdefault((vif.attachment.value, vif.network), [])
                if live.name not in names:
                    names.append(live.name)
        return {"networks": list(_network_infos(self._services.networks.defined, users))}


def _domid(found: Live | Managed) -> int | None:
    return found.domid if isinstance(found, Live) else None


def _network_infos(
    defined: Mapping[str, Network], users: dict[tuple[str, str], list[str]]
) -> Iterator[t.NetworkInfo]:
    for name, network in defined.items():
        yield {
            "name": name,
            "kind": network.kind.value,
            "bridge": network.bridge,
            "address": str(network.address or ""),
            "domains": users.pop((Attachment.NETWORK, name), []),
        }
    for (kind, name), names in sorted(users.items()):
        bridge = name if kind == Attachment.BRIDGE else ""
        yield {
            "name": name,
            "kind": kind,  # type: ignore[typeddict-item]
            "bridge": bridge,
            "address": "",
            "domains": names,
        }


def _carrier(vif: Vif, peer: str) -> str:
    """What carries an interface, in words."""
    if vif.attachment is Attachment.USER:
        return f"the host's sockets, through {peer}" if peer else "the host's sockets"
    return f"{vif.attachment} {vif.network}"


def _open_capture(path: str) -> int:
    """A FIFO that somebody reads, or a new file: nothing that is there is written over. ApiError."""
    if not path.startswith("/"):
        raise ApiError("bad-request", f"{path} is not an absolute path: give one")
    flags = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
    try:
        return _open_fifo(path, flags)
    except FileNotFoundError:
        pass
    except OSError as error:
        why = "nobody reads it" if error.errno == errno.ENXIO else error.strerror
        raise ApiError("refused", f"{path}: {why}") from error
    try:
        return os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise ApiError("refused", f"{path}: {error.strerror}") from error


def _open_fifo(path: str, flags: int) -> int:
    """OSError."""
    fd = os.open(path, flags)
    if not stat.S_ISFIFO(os.fstat(fd).st_mode):
        os.close(fd)
        raise FileExistsError(errno.EEXIST, "it exists already: name a new file")
    return fd


def _checked(device: Any, **fields: Any) -> Any:
    """Changed so. ApiError (bad-configuration)."""
    try:
        return replace(device, **fields)
    except ConfigError as error:
        raise ApiError("bad-configuration", str(error)) from error


def _disk(live: Live, word: str) -> Disk:
    """By its name in the guest or its number. ApiError."""
    for disk in live.record.config.disks:
        if word in (disk.vdev, str(disk.devid)):
            return disk
    names = ", ".join(disk.vdev for disk in live.record.config.disks) or "none"
    raise ApiError("no-such-device", f"{live.name} has no disk {word}: there is {names}")


def _vif(live: Live, word: str) -> tuple[int, Vif]:
    """Its number and what it is, by its number or MAC. ApiError."""
    for entry in live.record.devices:
        if entry["kind"] == VIF and word.lower() in (str(entry["devid"]), entry["config"]["mac"]):
            found = next((vif for vif in live.record.config.vifs if vif.mac == entry["config"]["mac"]), None)
            if found is not None:
                return entry["devid"], found
    raise ApiError("no-such-device", f"{live.name} has no interface {word}")


def disk_info(disk: Disk, said: Mapping[str, Any]) -> t.DiskInfo:
    """`said`: by the domain's process, nothing for a domain that does not run."""
    return {
        "vdev": disk.vdev,
        "devid": disk.devid,
        "target": disk.target,
        "format": disk.format.value,
        "mode": "w" if disk.writable else "r",
        "cdrom": disk.cdrom,
        "overlay": disk.overlay,
        "state": said.get("state", "Unknown").lower(),
        "size_bytes": said.get("size_bytes", 0),
        "sector_bytes": disk.sector_bytes,
        "limit_bytes": disk.limit_bytes,
        "limit_requests": disk.limit_requests,
        "rd_req": said.get("rd_req", 0),
        "wr_req": said.get("wr_req", 0),
        "rd_bytes": said.get("rd_sect", 0) * SECTOR,
        "wr_bytes": said.get("wr_sect", 0) * SECTOR,
        "errors": sum(said.get(name, 0) for name in ("rd_err", "wr_err", "f_err", "ds_err")),
    }


def interface_info(vif: Vif, said: Mapping[str, Any], at: int) -> t.InterfaceInfo:
    """As `disk_info`; `at` is its number where there is no process to tell it."""
    forwards: list[t.ForwardInfo] = [
        {
            "protocol": forward.protocol,  # type: ignore[typeddict-item]
            "host_address": forward.host_address,
            "host_port": forward.host_port,
            "guest_port": forward.guest_port,
        }
        for forward in vif.forwards
    ]
    return {
        "devid": said.get("devid", at),
        "mac": vif.mac,
        "attachment": vif.attachment.value,
        "network": vif.network,
        "addresses": list(vif.addresses),
        "rate_bytes": vif.rate_bytes,
        "name": vif.name,
        "state": said.get("state", "Unknown").lower(),
        "forwards": forwards,
        "description": _carrier(vif, said.get("peer", "")),
        "rx_bytes": said.get("rx_bytes", 0),
        "rx_packets": said.get("rx_packets", 0),
        "rx_drops": said.get("rx_drops", 0),
        "tx_bytes": said.get("tx_bytes", 0),
        "tx_packets": said.get("tx_packets", 0),
        "tx_drops": said.get("tx_drops", 0),
    }
