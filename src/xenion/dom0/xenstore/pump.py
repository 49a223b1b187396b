"""A guest's xenstore page (io/xs_wire.h, docs/misc/xenstore-ring.txt), pumped over its own connection to xenstored.

The store knows from the connection who asks; this only moves messages, and hides from the guest that xenstored was
killed and came back: what was not answered is asked again, and a transaction that was open ends with EAGAIN.
"""

import socket
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from xenion.abi.errno import Errno
from xenion.abi.io.xs_wire import (
    XENSTORE_CONNECTED,
    XENSTORE_ERROR_NONE,
    XENSTORE_ERROR_PROTO,
    XENSTORE_ERROR_RINGIDX,
    XENSTORE_PAYLOAD_MAX,
    XENSTORE_RECONNECT,
    XENSTORE_RING_SIZE,
    XenstoreDomainInterface,
    XsdSockmsgType,
)
from xenion.dom0.loop import Loop
from xenion.dom0.ring import (
    BrokenIndexError,
    Fence,
    Notifier,
    RingError,
    RingReader,
    RingWriter,
    SharedPage,
    offset_of,
)
from xenion.dom0.xenstore.domains import FEATURES
from xenion.dom0.xenstore.guest_transactions import GuestTransactions
from xenion.dom0.xenstore.link import StoreLink
from xenion.dom0.xenstore.payload import OK
from xenion.dom0.xenstore.renumber import Renumbering, too_long
from xenion.dom0.xenstore.wire import Message, MessageParser, WireError, encode

OUTSTANDING = 16
"""Requests that wait for the store before the guest's next ones wait in its ring."""
UNREAD_BYTES = 1 << 16
"""A guest that leaves so much unread gets nothing more until it reads."""

_FEATURES_WORD = offset_of(XenstoreDomainInterface, "server_features") // 4
_CONNECTION_WORD = offset_of(XenstoreDomainInterface, "connection") // 4
_ERROR_WORD = offset_of(XenstoreDomainInterface, "error") // 4
_EVENT, _ERROR = int(XsdSockmsgType.WATCH_EVENT), int(XsdSockmsgType.ERROR)
_WATCH, _UNWATCH = int(XsdSockmsgType.WATCH), int(XsdSockmsgType.UNWATCH)
_DONE_ALREADY = {
    int(XsdSockmsgType.WATCH): Errno.EEXIST,
    int(XsdSockmsgType.UNWATCH): Errno.ENOENT,
    int(XsdSockmsgType.RM): Errno.ENOENT,
}
"""What the store says to a request that it had carried out before it was killed, and not answered."""
_RESET = Message(int(XsdSockmsgType.RESET_WATCHES), 0, 0, b"\0")


class ProtocolError(RingError):
    """The guest's byte stream is not xenstore's protocol."""


class _Page:
    """The guest's page as this end uses it."""

    def __init__(self, page: SharedPage, port: Notifier, fence: Fence) -> None:
        self._words = page.view().cast("B").cast("I")
        self.requests = RingReader(page, XenstoreDomainInterface, "req", XENSTORE_RING_SIZE, fence)
        self.responses = RingWriter(page, XenstoreDomainInterface, "rsp", XENSTORE_RING_SIZE, fence)
        self.notify = port.notify
        self._fence = fence
        self._words[_FEATURES_WORD] = FEATURES

    @property
    def wants_to_reconnect(self) -> bool:
        return bool(self._words[_CONNECTION_WORD] == XENSTORE_RECONNECT)

    def reconnect(self) -> None:
        self.requests.reset()
        self.responses.reset()
        self._words[_ERROR_WORD] = XENSTORE_ERROR_NONE
        self._fence()  # an empty ring before the word that says so
        self._words[_CONNECTION_WORD] = XENSTORE_CONNECTED
        self.notify()

    def fail(self, code: int) -> None:
        self._words[_ERROR_WORD] = code
        self.notify()


@dataclass(frozen=True, slots=True)
class PumpState:
    """What a guest's page does not tell of its talk with the store. `requests` and `replies`: bytes on their way.
    `transactions`: the numbers that the guest knows, and the last one that was given out. `watches`: as the guest has
    asked for each. `failed`: the guest broke the ring."""

    requests: bytes
    replies: bytes
    transactions: Sequence[int]
    last_transaction: int
    watches: Sequence[Annotated[bytes, Meta(max_length=XENSTORE_PAYLOAD_MAX)]]
    failed: bool


@dataclass(slots=True)
class _Asked:
    """A request that is not answered; the guest gets its replies in the order of its requests."""

    request: Message
    dropped: bool = False
    """Nobody waits for the reply any more. Of those that wait, the dropped ones come first."""
    again: bool = False
    """An earlier store was asked, too."""
    loose: bool = False
    """The store sees it outside of any transaction, and will whenever it is asked again."""
    answer: Message | None = None
    """Our own: the store is not asked."""
    lasting: bool = False
    """A watch that is set again for a restored guest: nobody waits for the reply, but the store has to be asked."""


class StorePump:
    """Of one domain, through all of its boots. `on_event` when the guest has notified.

    A guest that breaks the ring or the protocol loses its watches, transactions and whatever waits, and is no longer
    served until it asks to reconnect.
    """

    def __init__(self, loop: Loop, log: Callable[[str], None]) -> None:
        self._page: _Page | None = None
        self._loop = loop
        self._log = log
        self._parser = MessageParser()
        self._asked: deque[_Asked] = deque()
        self._transactions = GuestTransactions()
        self._unread = bytearray()
        self._watches: dict[tuple[bytes, bytes], bytes] = {}
        """By path and token, how the guest has asked for those that it has set."""
        self._holding: Callable[[], None] | None = None
        """Nothing more is asked for the guest; called when all has been answered."""
        self._link: StoreLink | None = None
        self._renumbering: Renumbering | None = None
        """Between the store and all that is kept here, which is as the guest says and hears it."""
        self.failed = False
        """The guest broke the ring and has not reconnected."""
        self._told = False

    def serve(self, page: SharedPage, port: Notifier, fence: Fence) -> None:
        """A guest's page from its boot on; what an earlier boot has left in the store is none of its business."""
        self._page = _Page(page, port, fence)
        self.failed = self._told = False
        self._holding = self._renumbering = None
        self._drop()

    def stop(self) -> None:
        """The guest has stopped: its page is not touched any more."""
        self._page = None
        self._drop()

    # --- a guest that is saved and restored

    def hold(self, then: Callable[[], None]) -> None:
        """Takes nothing more from the guest, until `go_on`; `then` when the store has answered all."""
        self._holding = then
        self._look_at_hold()

    def go_on(self) -> None:
        self._holding = None
        self.on_event()

    def _look_at_hold(self) -> None:
        if self._holding is not None and not self._asked:
            then, self._holding = self._holding, _nothing
            then()

    def state(self) -> PumpState:
        """While it is held."""
        known = self._transactions
        return PumpState(
            self._parser.pending,
            bytes(self._unread),
            known.known,
            known.last,
            list(self._watches.values()),
            self.failed,
        )

    def restore(self, state: PumpState, renumbering: Renumbering | None = None) -> None:
        """After `serve`, of a guest that another pump has served until then; `renumbering` if its id is another one
        than it knows. WireError."""
        self._renumbering = renumbering
        self._parser.push(state.requests)
        self._unread += state.replies
        self._transactions = GuestTransactions.broken(state.transactions, state.last_transaction)
        self.failed = state.failed
        for watch in state.watches:
            request = Message(_WATCH, 0, 0, watch)
            encode(request)  # or it cannot be asked
            self._ask(_Asked(request, dropped=True, lasting=True))

    # --- the store's side

    def connect(self, stream: socket.socket) -> None:
        """The connection to use from now on."""
        again = self._link is not None
        self.close()
        self._link = StoreLink(stream, self._loop, self._received)
        self._ask_all(again)

    def close(self) -> None:
        if self._link is not None:
            self._link.close()

    def _ask_all(self, again: bool) -> None:
        """What waits, on a new connection; what is within a transaction that is gone has its answer already."""
        self._transactions.break_all()
        waiting, self._asked = self._asked, deque()
        for asked in waiting:
            asked.again = asked.again or again
            if asked.answer is not None:
                self._answer(asked.request, asked.answer)
            elif asked.dropped:
                if asked.request is _RESET or asked.lasting:
                    self._ask(asked)
            elif asked.loose:
                self._ask(asked)
            else:
                self._serve(asked.request, again=asked.again)
        self._look_at_hold()
        self.on_event()

    def _ask(self, asked: _Asked) -> None:
        outward = self._transactions.outward(asked.request)
        if self._renumbering is not None:
            outward = self._renumbering.outward(outward)
            if len(outward.payload) > XENSTORE_PAYLOAD_MAX:
                if not asked.dropped:
                    self._answer(asked.request, too_long(asked.request))
                return
        self._asked.append(asked)
        asked.loose = asked.loose or not outward.tx_id
        if self._link is not None:
            self._link.send(outward._replace(tx_id=0) if asked.loose else outward)

    def _received(self, message: Message) -> None:
        if message.type == _EVENT:
            first = self._asked[0] if self._asked else None
            if (
                first is None or not first.dropped or first.lasting
            ):  # else it is of a watch that is about to go
                self._tell_event(message)
        elif self._asked:
            self._replied(self._asked.popleft(), message)
        self._look_at_hold()
        self.on_event()  # room for a request, even if nobody waited for this reply

    def _replied(self, asked: _Asked, reply: Message) -> None:
        if asked.again and reply.type == _ERROR and _says_done(asked.request, reply):
            reply = Message(asked.request.type, reply.req_id, reply.tx_id, OK)
        self._note_watch(asked, reply)
        if not asked.dropped:
            if self._renumbering is not None:
                reply = self._renumbering.inward(asked.request, reply)
            self._tell(self._transactions.inward(asked.request, reply))
        while self._asked and (answer := self._asked[0].answer) is not None:
            self._asked.popleft()
            self._tell(answer)

    def _note_watch(self, asked: _Asked, reply: Message) -> None:
        kind = asked.request.type
        if reply.type == _ERROR or (asked.dropped and not asked.lasting and kind != _RESET.type):
            return
        if kind == _RESET.type:
            self._watches.clear()
        elif kind in (_WATCH, _UNWATCH):
            path, token, *_ = [*asked.request.payload.split(b"\0"), b"", b""]
            if kind == _WATCH:
                self._watches[path, token] = asked.request.payload
            else:
                self._watches.pop((path, token), None)

    def _tell_event(self, event: Message) -> None:
        told = event if self._renumbering is None else self._renumbering.event(event)
        if told is not None:
            self._tell(told)

    def _tell(self, message: Message) -> None:
        if self._page is not None and not self.failed:
            self._unread += encode(message)

    # --- the guest's side

    def on_event(self) -> None:
        """Does what can be done now; the store's answers lead to the rest."""
        page = self._page
        if page is None or self._holding is not None:
            return
        if page.wants_to_reconnect:
            self._drop()
            self.failed = False
            page.reconnect()
        if self.failed:
            return
        try:
            self._pump(page)
        except BrokenIndexError as error:
            self._fail(page, XENSTORE_ERROR_RINGIDX, error)
        except WireError as error:
            error_text = f"{error}; the guest's ring is no longer served"
            self._fail(page, XENSTORE_ERROR_PROTO, ProtocolError(error_text))

    def _pump(self, page: _Page) -> None:
        moved = False
        while len(self._asked) < OUTSTANDING and len(self._unread) < UNREAD_BYTES:
            request = self._parser.take()
            if request is not None:
                self._serve(request)
                continue
            data = page.requests.read(XENSTORE_RING_SIZE)
            if not data:
                break
            self._parser.push(data)
            moved = True
        if self._write_out(page) or moved:
            page.notify()

    def _serve(self, request: Message, *, again: bool = False) -> None:
        answer = self._transactions.answer(request)
        if answer is None:
            self._ask(_Asked(request, again=again))
        else:
            self._answer(request, answer)

    def _answer(self, request: Message, answer: Message) -> None:
        """Ours, in its turn."""
        if self._asked:
            self._asked.append(_Asked(request, answer=answer))
        else:
            self._tell(answer)

    def _write_out(self, page: _Page) -> bool:
        """Until nothing is left or the ring was seen full after the last write: only of a full ring does a guest tell
        that it has read."""
        moved = False
        while self._unread and (written := page.responses.write(self._unread)):
            del self._unread[:written]
            moved = True
        if self._link is not None:
            self._link.hold(len(self._unread) >= UNREAD_BYTES)
        return moved

    def _fail(self, page: _Page, code: int, error: RingError) -> None:
        self.failed = True
        self._drop()
        page.fail(code)
        if not self._told:
            self._told = True
            self._log(str(error))

    def _drop(self) -> None:
        self._asked = deque([asked for asked in self._asked if asked.answer is None])
        for asked in self._asked:
            asked.dropped, asked.lasting = True, False
        self._parser.clear()
        self._unread.clear()
        self._transactions = GuestTransactions()
        if self._link is not None:
            self._link.hold(False)
        if not self._asked or self._asked[-1].request is not _RESET:
            self._ask(_Asked(_RESET, dropped=True))


def _nothing() -> None:
    return


def _says_done(request: Message, error: Message) -> bool:
    done = _DONE_ALREADY.get(request.type)
    return done is not None and error.payload == done.name.encode() + b"\0"
