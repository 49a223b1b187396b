"""What a saved domain is beside its memory and its page tables: what its process keeps for it."""

from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from xenion.abi.xen import DOMID_FIRST_RESERVED
from xenion.dom0.xenstore.pump import PumpState
from xenion.dom0.xenstore.trees import KeptNode
from xenion.domain.saved.format import SavedFileError
from xenion.vmm.saved import U32, DomainState, Leaf

S = TypeVar("S", bound=msgspec.Struct)
Domid = Annotated[int, Meta(gt=0, lt=DOMID_FIRST_RESERVED)]


class Head(msgspec.Struct, frozen=True):
    """Which domain it is. `config` as DomainConfig has it, with the name, disks and interfaces of the moment;
    `known_as`: the id that its guest was told when it booted; `processor`: the one that it runs on, and `cpuid` what it
    was told of it; `saved_at` in seconds since the epoch."""

    config: dict[str, Any]
    uuid: str
    domid: Domid
    known_as: Domid
    name: str
    processor: str
    saved_at: float
    xenion: str
    cpuid: list[Leaf] = []


class MachineState(msgspec.Struct, frozen=True):
    """`nodes`: its part of the store, `talk`: what it says to the store. `target_mib`, `maxmem_mib`, `vcpus`: what the
    guest was asked to have, and may."""

    domain: DomainState
    nodes: list[KeptNode]
    talk: PumpState
    console_pfn: U32
    console_port: U32
    store_pfn: U32
    store_port: U32
    target_mib: U32
    maxmem_mib: U32
    vcpus: Annotated[int, Meta(ge=1, le=64)]


class HostDisk(msgspec.Struct, frozen=True):
    """A disk that the guest writes: what its image was when the guest was saved; None where that cannot be told."""

    vdev: str
    size: int | None
    mtime_ns: int | None


class HostState(msgspec.Struct, frozen=True):
    """`lasting`: the domain's overlays outlive it, see xend's records. `point`: the id under which xend keeps what the
    disks were, see xenion.xend.disks.layers; "" if they are to be found as they are."""

    lasting: bool
    disks: list[HostDisk]
    point: Annotated[str, Meta(max_length=64)] = ""


def encode(value: msgspec.Struct) -> bytes:
    return msgspec.json.encode(value)


def decode(data: bytes, kind: type[S]) -> S:
    """SavedFileError."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (ValueError, RecursionError) as error:
        raise SavedFileError(f"it makes no sense ({error})") from error
