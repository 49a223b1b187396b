"""What two xends say to each other about a domain that moves.

    source                       target
    Offer            ────────▶   may it come?
                     ◀────────   Accepted, or Refused
    the stream       ────────▶   a process reads it
                     ◀────────   Got: one of its rounds
    Sent             ────────▶
                     ◀────────   Loaded: all of it is here and in order
    Commit           ────────▶   the source has stopped, and its disks are free: they are locked here
                     ◀────────   Arrived: it runs here, and the source's ends

Refused, at any place, means that it will never run there. Query asks, on a connection of its own, what has become of
one whose last answer was lost: Arrived, or Unknown, after which it never arrives, or Undecided: ask again.
"""

from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from xenion.abi.xen import DOMID_FIRST_RESERVED
from xenion.vmm.saved import Leaf
from xenion.xend.logstate import clean
from xenion.xend.migration.wire import DATA, MESSAGE, Frame, Wire, WireError

ANSWER_S = 30.0
WORD = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[0-9a-f]+\Z")]
T = TypeVar("T")


class DiskMark(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A disk that the guest writes, as a host sees it: None where that cannot be told."""

    vdev: str
    size: int | None
    inode: int | None
    mtime_ns: int | None


class Shown(msgspec.Struct, frozen=True):
    """The processor that a guest runs on, and what it was told of it."""

    processor: str
    cpuid: list[Leaf]


class Offer(msgspec.Struct, frozen=True, tag="offer"):
    """`id` names the migration; `paused`: it goes on paused; `check`: nothing follows, it is only a question."""

    id: WORD
    config: dict[str, Any]
    domid: Annotated[int, Meta(gt=0, lt=DOMID_FIRST_RESERVED)]
    managed: bool
    lasting: bool
    paused: bool
    check: bool
    same_disks: bool
    """Devices of the same path are the same on both hosts."""
    disks: list[DiskMark]
    shown: Shown


class Accepted(msgspec.Struct, frozen=True, tag="accepted"):
    """`ledger`: the name of the target's file of arrivals."""

    ledger: str = ""


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    why: str


class Sent(msgspec.Struct, frozen=True, tag="sent"): ...


class Got(msgspec.Struct, frozen=True, tag="got"):
    """`round`: all of it has been read there."""

    round: Annotated[int, Meta(ge=0)]


class Loaded(msgspec.Struct, frozen=True, tag="loaded"): ...


class Commit(msgspec.Struct, frozen=True, tag="commit"):
    disks: list[DiskMark]


class Arrived(msgspec.Struct, frozen=True, tag="arrived"):
    """`domid`: 0 if it has ended there since. `seconds`: from the Commit until it ran."""

    domid: Annotated[int, Meta(ge=0, lt=DOMID_FIRST_RESERVED)]
    seconds: Annotated[float, Meta(ge=0)] = 0.0


class Query(msgspec.Struct, frozen=True, tag="query"):
    id: WORD


class Unknown(msgspec.Struct, frozen=True, tag="unknown"):
    """Not in the `ledger`."""

    ledger: str = ""


class Undecided(msgspec.Struct, frozen=True, tag="undecided"): ...


Message = Offer | Accepted | Refused | Got | Sent | Loaded | Commit | Arrived | Query | Undecided | Unknown
_decoder: "msgspec.json.Decoder[Message]" = msgspec.json.Decoder(Message)


class RefusalError(Exception):
    """The other host does not take it; a sentence says why."""


async def say(wire: Wire, message: Message) -> None:
    """WireError."""
    await wire.send(MESSAGE, msgspec.json.encode(message))


def message_of(frame: Frame) -> Message:
    """WireError."""
    try:
        return _decoder.decode(frame.data)
    except (ValueError, RecursionError) as error:
        raise WireError("what it says makes no sense") from error


async def hear(wire: Wire, kind: type[T] | tuple[type[T], ...], seconds: float | None = ANSWER_S) -> T:
    """The next message, which has to be of this kind, or one of these. RefusalError, WireError."""
    frame = await wire.receive(seconds)
    message = None if frame.kind == DATA else message_of(frame)
    if isinstance(message, Refused):
        raise RefusalError(clean(message.why))
    if not isinstance(message, kind):
        raise WireError("what it says makes no sense")
    return message
