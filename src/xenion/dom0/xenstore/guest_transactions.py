"""A guest's transactions across restarts of xenstored: the guest sees numbers of ours, which stay.

One that was open when xenstored died is broken: it can only end with EAGAIN, as one does that another client has
disturbed. Until then its writes are swallowed and its reads see the store as it is.
"""

from collections.abc import Iterable

from xenion.abi.errno import Errno
from xenion.abi.io.xs_wire import XsdSockmsgType
from xenion.dom0.xenstore.wire import Message

_START, _END = int(XsdSockmsgType.TRANSACTION_START), int(XsdSockmsgType.TRANSACTION_END)
_RESET = int(XsdSockmsgType.RESET_WATCHES)
_ERROR = int(XsdSockmsgType.ERROR)
_WRITES = {
    int(kind)
    for kind in (XsdSockmsgType.WRITE, XsdSockmsgType.MKDIR, XsdSockmsgType.RM, XsdSockmsgType.SET_PERMS)
}
_UNKNOWN = 0xFFFF_FFFF
"""No store gives this number out."""
_OK = b"OK\0"


class GuestTransactions:
    """Numbers as the guest knows them, and what each is in the store now; None: broken."""

    def __init__(self) -> None:
        self._known: dict[int, int | None] = {}
        self._last = 0

    @property
    def known(self) -> list[int]:
        """Those that the guest has not ended."""
        return list(self._known)

    @property
    def last(self) -> int:
        """The number that was given out last."""
        return self._last

    @classmethod
    def broken(cls, known: Iterable[int], last: int) -> "GuestTransactions":
        """Those of a guest whose store is another one now."""
        made = cls()
        made._known = dict.fromkeys(known)
        made._last = last
        return made

    def break_all(self) -> None:
        """The store has lost them."""
        self._known = dict.fromkeys(self._known)

    def answer(self, request: Message) -> Message | None:
        """What the guest is told without asking the store; None: ask it."""
        if not request.tx_id or self._known.get(request.tx_id, _UNKNOWN) is not None:
            return None
        if request.type == _END:
            del self._known[request.tx_id]
            if request.payload == b"T\0":
                return request._replace(type=_ERROR, payload=Errno.EAGAIN.name.encode() + b"\0")
            return request._replace(payload=_OK)
        return request._replace(payload=_OK) if request.type in _WRITES else None

    def outward(self, request: Message) -> Message:
        """The request as the store is to see it."""
        if not request.tx_id:
            return request
        number = self._known.get(request.tx_id, _UNKNOWN)
        return request._replace(tx_id=0 if number is None else number)

    def inward(self, request: Message, reply: Message) -> Message:
        """The store's reply to it as the guest is to see it."""
        if reply.type == _START and request.type == _START:
            self._last = self._last % (_UNKNOWN - 1) + 1
            self._known[self._last] = int(reply.payload.rstrip(b"\0"))
            return reply._replace(tx_id=request.tx_id, payload=b"%d\0" % self._last)
        if request.type == reply.type == _RESET:  # which ends all transactions, too
            self._known.clear()
        if request.type == _END and _ended(reply):
            self._known.pop(request.tx_id, None)
        return reply._replace(tx_id=request.tx_id)


def _ended(reply: Message) -> bool:
    """A transaction is over whether or not it was committed; not if the request was malformed."""
    return reply.type == _END or reply.payload != Errno.EINVAL.name.encode() + b"\0"
