"""The file of a suspended domain: one at a time resumes it, and nobody does that has gone on."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from xenion.api.errors import ApiError
from xenion.api.folders import Folders
from xenion.xend import suspended
from xenion.xend.live import Live
from xenion.xend.suspended import RESUMING, SUSPENDED


@dataclass
class Running:
    """A domain that an earlier xend has begun to resume."""

    boot: int = 0
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    told: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def condition(self) -> Any:
        return SimpleNamespace(boot=self.boot)

    @property
    def record(self) -> Any:
        return SimpleNamespace(logs="web")

    async def until(self, condition: Any) -> None:
        self.asked.set()
        await self.told.wait()


@pytest.fixture
def where(tmp_path: Path) -> Folders:
    made = Folders(tmp_path / "run", tmp_path / "state")
    made.logs("web").mkdir(parents=True)
    return made


@pytest.fixture
def state(where: Folders) -> Path:
    (where.logs("web") / SUSPENDED).write_bytes(b"memory")
    return where.logs("web")


def there(state: Path) -> list[str]:
    return sorted(path.name for path in state.iterdir())


def test_one_takes_it(state: Path) -> None:
    assert suspended.is_suspended(state)
    assert suspended.take(state) == state / RESUMING
    assert not suspended.is_suspended(state)
    with pytest.raises(ApiError, match="No such file"):
        suspended.take(state)
    suspended.give_back(state)
    assert (there(state), (state / SUSPENDED).read_bytes()) == ([SUSPENDED], b"memory")


@pytest.mark.parametrize("taken", [True, False])
def test_dropped(state: Path, taken: bool) -> None:
    if taken:
        suspended.take(state)
    for _ in range(2):
        suspended.drop(state)
        assert there(state) == []


async def settled(where: Folders, *running: Running) -> None:
    await asyncio.wait_for(suspended.settle(where, cast("tuple[Live, ...]", running)), 60)


def test_what_nothing_came_of_is_suspended(where: Folders, state: Path) -> None:
    suspended.take(state)
    asyncio.run(settled(where))
    assert there(state) == [SUSPENDED]


@pytest.mark.parametrize(("boot", "left"), [(1, []), (0, [SUSPENDED])])
def test_what_became_of_it_is_waited_for(where: Folders, state: Path, boot: int, left: list[str]) -> None:
    suspended.take(state)

    async def work() -> None:
        web = Running()
        settling = asyncio.ensure_future(settled(where, web))
        await asyncio.wait_for(web.asked.wait(), 60)
        assert there(state) == [RESUMING]
        web.boot = boot
        web.told.set()
        await settling

    asyncio.run(work())
    assert there(state) == left


def test_one_that_cannot_be_told_does_not_keep_the_others(where: Folders, state: Path) -> None:
    suspended.take(state)
    other = where.logs("another")
    (other / RESUMING).mkdir(parents=True)
    (other / SUSPENDED).write_text("in the way of a folder")
    asyncio.run(settled(where))
    assert (there(state), there(other)) == ([SUSPENDED], [RESUMING, SUSPENDED])


# --- a file beside a domain that runs


@dataclass
class Left:
    """A domain that was being suspended when xend was killed."""

    reason: str = ""
    linked: bool = True
    leaving: dict[str, str] = field(default_factory=dict)
    refusal: str = ""
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    @property
    def record(self) -> Any:
        return SimpleNamespace(logs="web", leaving=self.leaving)

    @property
    def condition(self) -> Any:
        return SimpleNamespace(reason=self.reason, boot=1)

    async def until(self, condition: Any) -> None:
        """Or it is gone."""

    async def ask(self, what: str, **fields: Any) -> None:
        self.asked.append((what, fields))
        if self.refusal:
            raise ApiError("wrong-state", self.refusal)


@pytest.mark.parametrize(
    ("left", "there_is"),
    [
        ({}, []),
        ({"reason": "saved"}, [SUSPENDED]),
        ({"refusal": "web has just ended"}, [SUSPENDED]),
        ({"linked": False}, [SUSPENDED]),
        ({"leaving": {"to": "other"}}, [SUSPENDED]),
    ],
    ids=["goes on", "was told", "ends", "gone", "moves"],
)
def test_one_that_goes_on_has_none(
    where: Folders, state: Path, left: dict[str, Any], there_is: list[str]
) -> None:
    """Nor is it lost where the domain may have ended because of it."""
    web = Left(**left)
    asyncio.run(asyncio.wait_for(suspended.settle(where, cast("tuple[Live, ...]", (web,))), 60))
    assert there(state) == there_is
    if web.linked and not web.leaving:
        assert web.asked == [("finish-save", {"keep": True})]
    else:
        assert web.asked == []
