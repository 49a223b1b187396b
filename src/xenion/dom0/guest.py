"""What the VMM gives a back end of one guest: grants and event channels. No back end sees more of the guest than this.

A back end takes what the guest says as hostile: it copies once, checks the copy, and uses only that.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

PAGE_SIZE = 4096


class GrantError(Exception):
    """A grant reference cannot be used; `status` is its GNTST_* (grant_table.h), `ref` the reference."""

    def __init__(self, ref: int, status: int) -> None:
        super().__init__(f"grant reference {ref} cannot be used (status {status})")
        self.ref = ref
        self.status = status


class PortError(Exception):
    """The event channel that the guest named is none that waits for Domain 0."""

    def __init__(self, port: int) -> None:
        super().__init__(f"event channel {port} does not wait for Domain 0")


class MappedGrant(Protocol):
    """A granted page, mapped until `unmap`. It cannot go away or become a page table meanwhile."""

    @property
    def view(self) -> memoryview:
        """Its 4096 bytes; writable if it was mapped so. Not to be touched after `unmap`."""

    def unmap(self) -> None:
        """Any thread."""


class Port(Protocol):
    """Dom0's end of an event channel."""

    def notify(self) -> None:
        """Any thread: make the guest's end pending."""

    def close(self) -> None:
        """Dom0's thread: the handler is not called any more."""


class Guest(Protocol):
    """One domain, as its back ends reach it."""

    @property
    def domid(self) -> int: ...

    def map(self, ref: int, *, write: bool) -> MappedGrant:
        """Any thread. GrantError."""

    def wrote(self, pages: Sequence[MappedGrant]) -> None:
        """Any thread: the host has written into these. Before the guest is told, by a ring or an event, that it has."""

    def gather(self, parts: Sequence[tuple[int, int, int]]) -> bytes:
        """The bytes of (reference, offset, length) after (reference, offset, length), copied. GrantError.

        Offset and length are the caller's to check: within one page.
        """

    def spread(self, parts: Sequence[tuple[int, int, int]], data: bytes | bytearray) -> list[int]:
        """The reverse of `gather`: copies `data` to (reference, offset, length) after (reference, offset, length).

        The GNTST_* of each. `data` is as long as the parts are together.
        """

    def scatter(self, parts: Sequence[tuple[int, int, bytes | memoryview]]) -> list[int]:
        """Copies bytes to (reference, offset, bytes); the GNTST_* of each. Offset and length as for `gather`."""

    def bind(self, port: int, handler: Callable[[], None]) -> Port:
        """Dom0's end of the guest's unbound event channel; `handler` runs on Dom0's thread when the guest notifies.

        PortError. It is called once soon: a notification may have been lost before.
        """

    def fence(self) -> None:
        """A full memory barrier."""
