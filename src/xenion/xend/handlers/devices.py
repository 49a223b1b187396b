"""Disks and interfaces: listed, attached, detached, changed, listened to; and the networks that there are."""

import errno
import itertools
import os
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from xenion.api import types as t
from xenion.api.errors import ApiError
from xenion.config.disk import Disk, format_of
from xenion.config.domain import ConfigError
from xenion.config.vif import Attachment, Vif
from xenion.xend import told
from xenion.xend.attaching import with_disk, with_vif
from xenion.xend.call import Call, Handler
from xenion.xend.entries import VBD, VIF
from xenion.xend.live import Live
from xenion.xend.logstate import clean
from xenion.xend.managed import Managed
from xenion.xend.networks.defined import Network
from xenion.xend.services import Services

SECTOR, SNAP_BYTES = 512, 262144
NUMBER_DIGITS = 16
_FLAGS = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_NEW = _FLAGS | os.O_CREAT | os.O_EXCL


class Devices:
    def __init__(self, services: Services) -> None:
        self._services = services
        self._captures = itertools.count(time.time_ns() // 1_000_000)
        """Numbers that no earlier xend has used: captures outlive it."""

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

    async def _described(self, call: Call) -> tuple[Live | Managed, told.Devices]:
        """The domain, and what its process tells, if it runs."""
        found = self._services.registry.find(call.parameters["domain"])
        if not isinstance(found, Live):
            return found, {}
        return found, await told.devices(found) if found.linked else {}

    # --- disks

    async def _disks(self, call: Call) -> t.Disks:
        found, has = await self._described(call)
        disks = [disk_info(disk, has.get((VBD, disk.devid), told.NOTHING)) for disk in _disks(found)]
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
            changes, changed = {"limits": [disk.limit_bytes, disk.limit_requests]}, disk
            await attaching.configure(
                live, VBD, disk.devid, changes, lambda config: with_disk(config, changed)
            )
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
        return disk_info(disk, (await told.devices(live)).get((VBD, disk.devid), told.NOTHING))

    # --- interfaces

    async def _interfaces(self, call: Call) -> t.Interfaces:
        found, has = await self._described(call)
        vifs = [
            interface_info(devid, vif, has.get((VIF, devid), told.NOTHING)) for devid, vif in _vifs(found)
        ]
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
        await self._services.attaching.configure(
            live, VIF, devid, changes, lambda config: with_vif(config, vif)
        )
        return await self._interface_info(live, devid)

    async def _interface_info(self, live: Live, devid: int) -> t.InterfaceInfo:
        has = await told.devices(live)
        _, vif = _vif(live, str(devid))
        return interface_info(devid, vif, has.get((VIF, devid), told.NOTHING))

    # --- captures

    async def _capture(self, call: Call) -> t.Capture:
        """Everything that passes goes to the path, a new file or a FIFO that is read, as pcap."""
        live, path = self._live(call), call.body["path"]
        devid, _ = _vif(live, call.parameters["device"])
        number = next(self._captures)
        fd, is_new = _open_capture(path)
        try:
            changes = {"capture": {"id": number, "snap": call.body.get("snaplen", SNAP_BYTES)}}
            await live.ask("configure-device", kind=VIF, devid=devid, changes=changes, fds=[fd])
        except ApiError:
            if is_new:
                with suppress(OSError):
                    os.unlink(path)  # noqa: PTH108  as it was opened
            raise
        finally:
            os.close(fd)
        return {"capture": str(number)}

    async def _stop_capture(self, call: Call) -> t.Captured:
        live, word = self._live(call), call.parameters["capture"]
        devid, _ = _vif(live, call.parameters["device"])
        if not word.isdecimal() or len(word) > NUMBER_DIGITS:
            raise ApiError("bad-request", f"{word} is no number of a capture")
        changes = {"stop_capture": int(word)}
        answer = await live.ask("configure-device", kind=VIF, devid=devid, changes=changes)
        return {"packets": told.count(answer, "packets"), "dropped": told.count(answer, "dropped")}

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


def _open_capture(path: str) -> tuple[int, bool]:
    """A FIFO that somebody reads, or a new file, and whether it is new: nothing that is there is written over.
    ApiError."""
    if not path.startswith("/") or "\0" in path:
        raise ApiError("bad-request", f"{clean(path)} is not an absolute path: give one")
    try:
        is_new = not os.path.lexists(path)
        return os.open(path, _NEW, 0o600) if is_new else _open_fifo(path), is_new
    except OSError as error:
        why = "nobody reads it" if error.errno == errno.ENXIO else error.strerror
        raise ApiError("refused", f"{clean(path)}: {why}") from error
    except UnicodeError:
        raise ApiError("bad-request", f"{clean(path)} is no path") from None


def _open_fifo(path: str) -> int:
    """OSError."""
    _check_fifo(os.stat(path))  # noqa: PTH116  before it is opened, which may do something to what is none
    fd = os.open(path, _FLAGS)
    try:
        _check_fifo(os.fstat(fd))
    except OSError:
        os.close(fd)
        raise
    return fd


def _check_fifo(status: os.stat_result) -> None:
    """OSError."""
    if not stat.S_ISFIFO(status.st_mode):
        raise FileExistsError(errno.EEXIST, "it exists already: name a new file")


def _checked(device: Any, **fields: Any) -> Any:
    """Changed so. ApiError (bad-configuration)."""
    try:
        return replace(device, **fields)
    except ConfigError as error:
        raise ApiError("bad-configuration", str(error)) from error


def _disks(found: Live | Managed) -> list[Disk]:
    """Those of its configuration, and cloud-init's."""
    if isinstance(found, Managed):
        return list(found.config.disks)
    disks = list(found.record.config.disks)
    known = {disk.devid for disk in disks}
    for entry in found.record.devices:
        if isinstance(entry.config, Disk) and entry.devid not in known and not entry.coming:
            disks.append(entry.config)
    return disks


def _vifs(found: Live | Managed) -> list[tuple[int, Vif]]:
    """With their numbers."""
    config = found.config if isinstance(found, Managed) else found.record.config
    if isinstance(found, Managed):
        return list(enumerate(config.vifs))
    numbers = {
        entry.config.mac: entry.devid for entry in found.record.devices if isinstance(entry.config, Vif)
    }
    return [(numbers[vif.mac], vif) for vif in config.vifs if vif.mac in numbers]


def _disk(live: Live, word: str) -> Disk:
    """By its name in the guest or its number. ApiError."""
    disks = _disks(live)
    for disk in disks:
        if word in (disk.vdev, str(disk.devid)):
            return disk
    names = ", ".join(disk.vdev for disk in disks) or "none"
    raise ApiError("no-such-device", f"{live.name} has no disk {clean(word)}: there is {names}")


def _vif(live: Live, word: str) -> tuple[int, Vif]:
    """Its number and what it is, by its number or MAC. ApiError."""
    for devid, vif in _vifs(live):
        if word.lower() in (str(devid), vif.mac):
            return devid, vif
    raise ApiError("no-such-device", f"{live.name} has no interface {clean(word)}")


def disk_info(disk: Disk, said: told.Told) -> t.DiskInfo:
    """`said`: by the domain's process."""
    return {
        "vdev": disk.vdev,
        "devid": disk.devid,
        "target": disk.target,
        "format": disk.format.value,
        "mode": "w" if disk.writable else "r",
        "cdrom": disk.cdrom,
        "overlay": disk.overlay,
        "state": said.state,
        "size_bytes": said.count("size_bytes"),
        "sector_bytes": disk.sector_bytes,
        "limit_bytes": disk.limit_bytes,
        "limit_requests": disk.limit_requests,
        "rd_req": said.count("rd_req"),
        "wr_req": said.count("wr_req"),
        "rd_bytes": said.count("rd_sect") * SECTOR,
        "wr_bytes": said.count("wr_sect") * SECTOR,
        "errors": sum(said.count(name) for name in ("rd_err", "wr_err", "f_err", "ds_err")),
    }


def interface_info(devid: int, vif: Vif, said: told.Told) -> t.InterfaceInfo:
    """As `disk_info`."""
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
        "devid": devid,
        "mac": vif.mac,
        "attachment": vif.attachment.value,
        "network": vif.network,
        "addresses": list(vif.addresses),
        "rate_bytes": vif.rate_bytes,
        "name": vif.name,
        "state": said.state,
        "forwards": forwards,
        "rx_bytes": said.count("rx_bytes"),
        "rx_packets": said.count("rx_packets"),
        "rx_drops": said.count("rx_drops"),
        "tx_bytes": said.count("tx_bytes"),
        "tx_packets": said.count("tx_packets"),
        "tx_drops": said.count("tx_drops"),
        "description": _carrier(vif, said.peer),
    }
