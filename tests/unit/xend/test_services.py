"""xend's parts fit together: an action has a handler, and a start over anything that is there works."""

import pytest

from tests.unit.xend.kit import World, names, run
from xenion.api.actions import ACTIONS
from xenion.xend.eventlog import EventLogError
from xenion.xend.services import make_services


def test_every_action_has_a_handler(world: World) -> None:
    async def work() -> None:
        async with world:
            assert world.handlers.keys() == {action.name for action in ACTIONS}

    run(work)


def test_a_log_that_cannot_be_opened(world: World) -> None:
    (world.where.state / "events.jsonl").mkdir()
    with pytest.raises(EventLogError):
        make_services(world.where)


def test_what_others_left_in_the_folders(world: World) -> None:
    for folder in (world.where.domains, world.where.run / "outcomes", world.where.managed):
        folder.mkdir(exist_ok=True)
        (folder / "file").touch()
        (folder / "folder").mkdir()
        (folder / ".x.json.new").touch()

    async def work() -> None:
        async with world:
            assert world.names == []

    run(work)
    for folder in (world.where.run / "outcomes", world.where.managed):
        assert names(folder) == ["file", "folder"]
