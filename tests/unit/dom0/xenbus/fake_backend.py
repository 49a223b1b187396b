"""A back end that notes what is asked of it, notices what must not be, and lets go when the test says so."""

from collections.abc import Callable, Mapping
from typing import ClassVar

from xenion.dom0.xenbus.backend import Backend, FrontendError


class FakeBackend:
    kind: ClassVar[str] = "vbd"

    def __init__(self, devid: int = 51712) -> None:
        self.devid = devid
        self.slow = False
        """`disconnect` waits for `let_go`."""
        self.refuses = ""
        self.held = False
        self.calls: list[str] = []
        self.front: Mapping[str, str] = {}
        self.log: Callable[[str], None] = print
        self.changed: Callable[[Mapping[str, str]], None] = print
        self._leaving: list[Callable[[], None]] = []

    def backend_nodes(self) -> Mapping[str, str]:
        return {"mode": "w", "feature-x": "1"}

    def frontend_nodes(self) -> Mapping[str, str]:
        return {"virtual-device": str(self.devid)}

    def connect(self, front: Mapping[str, str]) -> Mapping[str, str]:
        assert not self.held, "connected twice"
        self.calls.append("connect")
        if self.refuses:
            raise FrontendError(self.refuses)
        self.held = True
        self.front = front
        return {"sectors": "8"}

    def disconnect(self, done: Callable[[], None]) -> None:
        assert self.held, "disconnected while nothing is connected"
        assert not self._leaving, "disconnected twice"
        self.calls.append("disconnect")
        self._leaving.append(done)
        if not self.slow:
            self.let_go()

    @property
    def leaving(self) -> bool:
        return bool(self._leaving)

    def let_go(self) -> None:
        """What was in flight has ended."""
        leaving, self._leaving = self._leaving, []
        for done in leaving:
            self.held = False
            done()

    def log_to(self, log: Callable[[str], None]) -> None:
        self.log = log


def _is_a_backend() -> Backend:
    return FakeBackend()
