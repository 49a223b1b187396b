"""A guest that is held while it is written somewhere, who asks for that, and Dom0's thread: no kernel runs."""

import os
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

from xenion.dom0.loop import Loop
from xenion.domain.control import Refusal, Request
from xenion.domain.devices import DeviceError


class HeldGuest:
    """It comes to rest when the test says so."""

    def __init__(self) -> None:
        self.domain = SimpleNamespace(parked=False)
        self.holders: set[str] = set()

    def hold(self, who: str) -> None:
        self.holders.add(who)

    def let_go(self, who: str) -> None:
        self.holders.discard(who)

    def held_by(self, who: str) -> bool:
        return who in self.holders


class Asked:
    """A request with descriptors of files, which keeps its answers and, apart from them, the progress and figures."""

    def __init__(self, name: str, fds: int = 1, **fields: Any) -> None:
        self.fields = fields
        self.answers: list[Any] = []
        self.told: list[tuple[int, int]] = []
        self.figures: list[dict[str, float]] = []
        self.abandoned = False
        self.fds = [os.memfd_create(name) for _ in range(fds)]
        self.fd = -1
        """Once it was taken."""

    teller = Request.teller

    def take_fds(self) -> list[int]:
        if len(self.fds) != 1:
            raise Refusal("no descriptor")
        fds, self.fds = self.fds, []
        (self.fd,) = fds
        return fds

    def close(self) -> None:
        """What nobody has taken."""
        for fd in self.fds:
            os.close(fd)

    def done(self, **values: Any) -> None:
        self.answers.append(values)

    def refuse(self, why: str) -> None:
        self.answers.append(why)

    def progress(self, done: int, total: int) -> None:
        self.told.append((done, total))

    def tell(self, figures: Mapping[str, float]) -> None:
        self.figures.append(dict(figures))


class Dom0Thread:
    """A loop that runs."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.loop.start(lambda: None)

    def on_dom0(self, action: Callable[[], None]) -> None:
        """What it refuses is refused here."""
        errors: list[Refusal | DeviceError] = []

        def run() -> None:
            try:
                action()
            except (Refusal, DeviceError) as error:
                errors.append(error)

        assert self.loop.call_and_wait(run)
        if errors:
            raise errors[0]

    def close(self) -> None:
        self.loop.stop()
        self.loop.close()
