"""What one domain may write into what all share."""

import time

import pytest

from tests.unit.xend.kit import World, add, config, run
from xenion.xend import allowance
from xenion.xend.allowance import Allowance


def test_a_burst_and_then_little_by_little(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    made = Allowance()
    assert [made.take() for _ in range(502)] == [True] * 500 + [False] * 2
    assert (made.left_out(), made.left_out()) == (2, 0)
    now += 1
    assert [made.take() for _ in range(6)] == [True] * 5 + [False]
    now += 1e9
    assert sum(made.take() for _ in range(600)) == 500, "a quiet domain saves no more than a burst"


def test_a_flood_is_counted_and_its_end_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allowance, "BURST", 3.0)
    monkeypatch.setattr(allowance, "A_SECOND", 0.0)

    async def work() -> None:
        async with world:
            live = await world.create(config(world.at))
            add(live, *({"kind": "note", "text": str(n)} for n in range(10)), {"kind": "paused"})
            await world.until(lambda: live.condition.state == "paused")
            assert world.told() == ["booted", "note", "note"]
            await world.call("destroy", domain="web")
            assert world.told() == ["booted", "note", "note", "note", "gone"]
            assert (
                world.services.log.entries()[-3]["detail"] == "11 entries were left out: they came too fast"
            )

    run(work)
