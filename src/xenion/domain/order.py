"""What a domain process is started with: one JSON document in the first descriptor, and the numbers of the others."""

import json
import os
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO

from xenion.config.domain import DomainConfig
from xenion.domain.devices import DeviceOrder


@dataclass(frozen=True, slots=True)
class Descriptors:
    """Each is open for what it is for, and no more. `lock` is only held.

    store_guest, store_back_ends   its two connections to xenstored
    control, console   listening soon: bound Unix sockets (SOCK_SEQPACKET, SOCK_STREAM)
    journal, log       files to append to
    report, core       spare files to write, empty until there is something to say
    kernel, ramdisk    files to read; ramdisk may be -1
    saved              a saved domain's file, or the stream from another host, which goes on; -1: the kernel is booted
    """

    control: int
    console: int
    journal: int
    log: int
    report: int
    core: int
    kernel: int
    ramdisk: int
    lock: int
    store_guest: int
    store_back_ends: int
    saved: int = -1

    def numbers(self) -> tuple[int, ...]:
        return tuple(fd for fd in asdict(self).values() if fd >= 0)


@dataclass(frozen=True, slots=True)
class Order:
    """`arriving`: what is saved comes from another host, and waits for xend's word when all of it is here."""

    config: DomainConfig
    domid: int
    uuid: str
    paused: bool
    fds: Descriptors
    devices: tuple[DeviceOrder, ...] = ()
    arriving: bool = False

    def numbers(self) -> tuple[int, ...]:
        """Every descriptor that comes with it."""
        return *self.fds.numbers(), *(fd for device in self.devices for fd in device.fds)

    def to_json(self) -> bytes:
        return json.dumps({**asdict(self), "config": self.config.to_mapping()}).encode()

    @classmethod
    def read(cls, file: BinaryIO) -> "Order":
        """From our own parent, who checked it all."""
        values: dict[str, Any] = json.load(file)
        return cls(
            config=DomainConfig.from_mapping(values["config"]),
            domid=values["domid"],
            uuid=values["uuid"],
            paused=values["paused"],
            arriving=values["arriving"],
            fds=Descriptors(**values["fds"]),
            devices=tuple(
                DeviceOrder(**{**device, "fds": tuple(device["fds"])}) for device in values["devices"]
            ),
        )


def in_memory(data: bytes) -> int:
    """A descriptor that reads as `data`."""
    fd = os.memfd_create("order", os.MFD_CLOEXEC)
    os.write(fd, data)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd
