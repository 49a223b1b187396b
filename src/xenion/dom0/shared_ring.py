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
            f"the guest announces {waiting} requests on a ring of {size}: it is no longer served"
        )


class BackRing:
    """A ring over `pages`, mapped writable. Slots hold a request, then its response; both are at most `slot_bytes`."""

    def __init__(self, pages: Sequence[memoryview], slot_bytes: int, fence: Callable[[], None]) -> None:
        self._pages = [page.cast("B") for page in pages]
        self._words = self._pages[0].cast("I")
        self._slot_bytes = slot_bytes
        self._fence = fence
        self.size = ring_size(len(pages) * PAGE_BYTES, slot_bytes)
        self._req_cons = self._rsp_prod = 0
        self._rsp_told = 0

    def attach(self, index: int) -> None:
        """Goes on where an earlier back end stopped, with nothing in flight: `index` is both of its own."""
        self._req_cons = self._rsp_prod = self._rsp_told = index & RING_IDX_MASK

    @property
    def in_flight(self) -> int:
        """Requests taken and not answered yet."""
        return ring_distance(self._req_cons, self._rsp_prod)

    def take(self, limit: int) -> list[bytes]:
        """At most `limit` new requests, copied. RequestOverflowError."""
        waiting = self._waiting()
        count = min(waiting, limit)
        self._fence()  # the index before what it shows
        requests = [self._read(self._req_cons + i) for i in range(count)]
        self._req_cons = (self._req_cons + count) & RING_IDX_MASK
        return requests

    def _waiting(self) -> int:
        waiting = ring_distance(self._words[_REQ_PROD], self._req_cons)
        if waiting > self.size - self.in_flight:
            raise RequestOverflowError(waiting, self.size)
        return waiting

    def put(self, response: bytes) -> None:
        """Places a response, which `push` shows to the guest. Only for a request that was taken."""
        if not self.in_flight:
            raise AssertionError("a response without a request")
        self._write(self._rsp_prod, response)
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

    def _read(self, index: int) -> bytes:
        at = HEADER_BYTES + (index & (self.size - 1)) * self._slot_bytes
        page, offset = divmod(at, PAGE_BYTES)
        end = offset + self._slot_bytes
        if end <= PAGE_BYTES:
            return bytes(self._pages[page][offset:end])
        return bytes(self._pages[page][offset:]) + bytes(self._pages[page + 1][: end - PAGE_BYTES])

    def _write(self, index: int, data: bytes) -> None:
        at = HEADER_BYTES + (index & (self.size - 1)) * self._slot_bytes
        page, offset = divmod(at, PAGE_BYTES)
        first = min(len(data), PAGE_BYTES - offset)
        self._pages[page][offset : offset + first] = data[:first]
        if first < len(data):
            self._pages[page + 1][: len(data) - first] = data[first:]
