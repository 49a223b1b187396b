from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from tests.unit.dom0.fake_guest import FakeGuest
from tests.unit.dom0.net.front import FakeWire, FrontEnd, options, settle
from xenion.dom0.loop import Loop
from xenion.dom0.net.backend import NetBackend


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.stop()
    made.close()


@dataclass
class Plugged:
    """A vif with its two sides."""

    loop: Loop
    guest: FakeGuest
    wire: FakeWire
    front: FrontEnd
    backend: NetBackend
    said: list[str] = field(default_factory=list)

    def settle(self) -> None:
        settle(self.loop)

    def connect(self) -> None:
        self.backend.connect(self.front.nodes)
        self.settle()

    def kick(self) -> None:
        for queue in self.front.queues:
            queue.kick()
        self.settle()


@pytest.fixture
def plug(loop: Loop) -> Iterator[Callable[..., Plugged]]:
    """Makes connected vifs; `front`: its features; what has no name here is an option."""
    made: list[Plugged] = []

    def build(
        *,
        queues: int = 1,
        split: bool = True,
        offload: bool = False,
        big: bool = True,
        connect: bool = True,
        front: dict[str, str] | None = None,
        **changes: object,
    ) -> Plugged:
        guest, wire = FakeGuest(loop, 0), FakeWire(offload=offload, big=big)
        backend = NetBackend(guest, 0, wire, options(**{"queues": 8, **changes}), loop)
        plugged = Plugged(loop, guest, wire, FrontEnd(guest, queues, split=split, **(front or {})), backend)
        backend.log_to(plugged.said.append)
        made.append(plugged)
        if connect:
            plugged.connect()
        return plugged

    yield build
    for each in made:
        each.backend.close()
        assert each.guest.mapped == [], "pages are still mapped"
        assert all(port.handler is None for port in each.guest.ports.values()), (
            "event channels are still bound"
        )
