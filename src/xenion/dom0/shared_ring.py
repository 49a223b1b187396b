"""The back end's side of a ring of requests and responses (public/io/ring.h).

The guest writes requests and `req_prod`, and says with `rsp_event` when it wants to be notified; we write responses,
`rsp_prod` and `req_event`. Both ends run at once. The guest's index is loaded once and checked; a request is copied
once. We never read what we wrote: the guest may have changed it.
"""

from collections.abc import Callable, Sequence
from ctypes import sizeof

from xenion.abi.io.ring import RING_IDX_MASK, SringHeader, ring_distance, ring_notify, ring_size
from xenion.dom0.ring import RingError

HEADER_BYTES = sizeof(SringHeader)
PAGE_BYTES = 4096
_REQ_PROD, _REQ_EVENT, _RSP_PROD, _RSP_EVENT = range(4)


class RequestOverflowError(RingError):
    """The guest says that it has put more requests on the ring than there is room for."""

    def __init__(self, waiting: int, size: int) -> None:
        super().__init__(
            f"the guest announces {waiting} requests beyond those in flight on a ring of {size}: the ring is no "
            "longer served, look for a bug in the guest's front end"
        )


class BackRing:
    """A ring over `pages`, mapped writable. Slots hold a request, then its response; both are at most `slot_bytes`.

    After a RequestOverflowError the ring takes nothing more (each `take` and `more` raises it while the guest's index
    stays wrong); requests taken before can still be answered.
    """

    def __init__(self, pages: Sequence[memoryview], slot_bytes: int, fence: Callable[[], None]) -> None:
        self._pages = [page.cast("B") for page in pages]
        self._words = self._pages[0].cast("I")
        self._slot_bytes = slot_bytes
        self._fence = fence
        self.size = ring_size(len(pages) * PAGE_BYTES, slot_bytes)
        if not self.size:
            raise ValueError(f"no slot of {slot_bytes} bytes fits into {len(pages)} pages")
        self._mask = self.size - 1
        self._slots = [self._whole_slot(index) for index in range(self.size)]
        self._req_cons = self._rsp_prod = 0
        self._rsp_told = 0

    def _whole_slot(self, index: int) -> memoryview | None:
        """The slot's bytes; None if they lie on two pages, which need not be neighbours here."""
        page, offset = divmod(HEADER_BYTES + index * self._slot_bytes, PAGE_BYTES)
        end = offset + self._slot_bytes
        return self._pages[page][offset:end] if end <= PAGE_BYTES else None

    def attach(self, index: int) -> None:
        """Goes on where an earlier back end stopped, with nothing in flight: `index` is both of its own."""
        self._req_cons = self._rsp_prod = self._rsp_told = index & RING_IDX_MASK

    def attach_as_shown(self) -> None:
        """`attach` at the responses that the guest's page says it has (0 on a new ring), as Linux's back ends do."""
        self.attach(self._words[_RSP_PROD])

    def close(self) -> None:
        """Lets go of the pages, before they are unmapped; nothing else may be called afterwards."""
        self._slots.clear()
        self._words.release()
        for page in self._pages:
            page.release()

    @property
    def in_flight(self) -> int:
        """Requests taken and not answered yet."""
        return ring_distance(self._req_cons, self._rsp_prod)

    def take(self, limit: int) -> list[bytes]:
        """At most `limit` new requests, copied. RequestOverflowError."""
        count = min(self._waiting(), limit)
        if count <= 0:
            return []
        self._fence()  # the index before what it shows
        cons, mask, slots = self._req_cons, self._mask, self._slots
        requests = []
        for index in range(cons, cons + count):
            slot = slots[index & mask]
            requests.append(bytes(slot) if slot is not None else self._read_halves(index & mask))
        self._req_cons = (cons + count) & RING_IDX_MASK
        return requests

    def _waiting(self) -> int:
        waiting = ring_distance(self._words[_REQ_PROD], self._req_cons)
        if waiting > self.size - self.in_flight:
            raise RequestOverflowError(waiting, self.size)
        return waiting

    def put(self, response: bytes) -> None:
        """Places a response, which `push` shows to the guest. Only for a request that was taken."""
        if self._req_cons == self._rsp_prod or len(response) > self._slot_bytes:
            raise AssertionError("a response without a request, or one that is longer than its slot")
        index = self._rsp_prod & self._mask
        slot = self._slots[index]
        if slot is not None:
            slot[: len(response)] = response
        else:
            self._write_halves(index, response)
        self._rsp_prod = (self._rsp_prod + 1) & RING_IDX_MASK

    def push(self) -> bool:
        """Shows all responses; whether the guest asked to be notified (RING_PUSH_RESPONSES_AND_CHECK_NOTIFY)."""
        new, old = self._rsp_prod, self._rsp_told
        if new == old:
            return False
        self._fence()  # responses before the index that shows them
        self._words[_RSP_PROD] = new
        self._rsp_told = new
        self._fence()  # the index before the guest's wish is looked at
        return ring_notify(old, new, self._words[_RSP_EVENT])

    def more(self) -> bool:
        """Whether there are requests. If not, the next one is notified (RING_FINAL_CHECK_FOR_REQUESTS).

        RequestOverflowError.
        """
        if self._waiting():
            return True
        self._words[_REQ_EVENT] = (self._req_cons + 1) & RING_IDX_MASK
        self._fence()  # our wish before the last look
        return self._waiting() > 0

    def _halves(self, index: int) -> tuple[memoryview, memoryview]:
        page, offset = divmod(HEADER_BYTES + index * self._slot_bytes, PAGE_BYTES)
        return self._pages[page][offset:], self._pages[page + 1][: offset + self._slot_bytes - PAGE_BYTES]

    def _read_halves(self, index: int) -> bytes:
        first, second = self._halves(index)
        return bytes(first) + bytes(second)

    def _write_halves(self, index: int, data: bytes) -> None:
        first, second = self._halves(index)
        cut = len(first)
        first[: len(data)] = data[:cut]
        second[: max(len(data) - cut, 0)] = data[cut:]
