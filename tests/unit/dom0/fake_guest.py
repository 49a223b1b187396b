"""A guest as a back end sees it (xenion.dom0.guest): pages, grants and event channels that a test holds in its hand."""

from collections.abc import Callable, Sequence

from xenion.dom0.guest import PAGE_SIZE, GrantError, MappedGrant, PortError
from xenion.dom0.loop import Loop

GNTST_OKAY = 0
GNTST_BAD_GNTREF = -3
GNTST_PERMISSION_DENIED = -8


class FakeMapped:
    """It notices when it is used after `unmap`, which may come once."""

    def __init__(self, guest: "FakeGuest", ref: int, frame: int, write: bool) -> None:
        self._guest = guest
        self.ref = ref
        self.frame = frame
        self.write = write
        page = memoryview(guest.frames[frame])
        self._view = page if write else page.toreadonly()
        self.mapped = True

    @property
    def view(self) -> memoryview:
        assert self.mapped, "a mapping is looked at after it was unmapped"
        return self._view

    def unmap(self) -> None:
        assert self.mapped, "a mapping is unmapped twice"
        self.mapped = False
        self._view.release()
        self._guest.mapped.remove(self)


class FakePort:
    """Dom0's end; `notified` counts what the guest got."""

    def __init__(self, handler: Callable[[], None]) -> None:
        self.handler: Callable[[], None] | None = handler
        self.notified = 0

    def notify(self) -> None:
        assert self.handler is not None, "a closed event channel is notified"
        self.notified += 1

    def close(self) -> None:
        assert self.handler is not None, "an event channel is closed twice"
        self.handler = None


class FakeGuest:
    """`frames` are its pages; `grants` says which it gave: (frame, may be written); `unbound` are its channels."""

    domid = 7

    def __init__(self, loop: Loop, frames: int = 64) -> None:
        self._loop = loop
        self.frames = [bytearray(PAGE_SIZE) for _ in range(frames)]
        self.grants: dict[int, tuple[int, bool]] = {}
        self.unbound: set[int] = set()
        self.ports: dict[int, FakePort] = {}
        self.mapped: list[FakeMapped] = []
        self.maps = 0
        self.told: list[int] = []
        """Frames that the host said it has written to, since the test last cleared it."""

    def grant(self, ref: int, frame: int, *, write: bool = True) -> int:
        self.grants[ref] = (frame, write)
        return ref

    def event(self, port: int) -> None:
        """The guest notifies Dom0."""
        bound = self.ports.get(port)
        if bound is not None and bound.handler is not None:
            self._loop.call(lambda: bound.handler() if bound.handler is not None else None)

    def _use(self, ref: int, write: bool) -> int:
        if ref not in self.grants:
            raise GrantError(ref, GNTST_BAD_GNTREF)
        frame, may_write = self.grants[ref]
        if write and not may_write:
            raise GrantError(ref, GNTST_PERMISSION_DENIED)
        return frame

    def map(self, ref: int, *, write: bool) -> FakeMapped:
        mapped = FakeMapped(self, ref, self._use(ref, write), write)
        self.mapped.append(mapped)
        self.maps += 1
        return mapped

    def wrote(self, pages: Sequence[MappedGrant]) -> None:
        for page in pages:
            assert isinstance(page, FakeMapped)
            assert page.mapped, "a page is told of after it was unmapped"
            assert page.write, "a page is told of that was mapped for reading"
            self.told.append(page.frame)

    def gather(self, parts: Sequence[tuple[int, int, int]]) -> bytes:
        gathered = b""
        for ref, offset, length in parts:
            assert 0 <= offset <= offset + length <= PAGE_SIZE
            gathered += self.frames[self._use(ref, False)][offset : offset + length]
        return gathered

    def spread(self, parts: Sequence[tuple[int, int, int]], data: bytes | bytearray) -> list[int]:
        pieces, at = [], 0
        for ref, offset, length in parts:
            pieces.append((ref, offset, memoryview(data)[at : at + length]))
            at += length
        assert at == len(data)
        return self.scatter(pieces)

    def scatter(self, parts: Sequence[tuple[int, int, bytes | memoryview]]) -> list[int]:
        results = []
        for ref, offset, data in parts:
            assert 0 <= offset <= offset + len(data) <= PAGE_SIZE
            try:
                frame = self._use(ref, True)
            except GrantError as error:
                results.append(error.status)
                continue
            self.frames[frame][offset : offset + len(data)] = data
            self.told.append(frame)
            results.append(GNTST_OKAY)
        return results

    def bind(self, port: int, handler: Callable[[], None]) -> FakePort:
        if port not in self.unbound:
            raise PortError(port)
        self.unbound.discard(port)
        bound = self.ports[port] = FakePort(handler)
        self.event(port)
        return bound

    def fence(self) -> None:
        pass
