"""What tests of domains that leave have in common: the target's steps, and how it looks afterwards."""

from collections.abc import Awaitable, Callable
from typing import Any

from tests.unit.xend.kit import within
from tests.unit.xend.migration.kit import UUID, Far, Host, Script, Targets, words
from xenion.api.errors import ApiError
from xenion.xend.live import Live
from xenion.xend.migration.talk import (
    Accepted,
    Arrived,
    Commit,
    Message,
    Offer,
    Query,
)
from xenion.xend.migration.wire import DATA
from xenion.xend.storage import read_json

GAVE_UP = ["migrate", "cancel-migrate"]
STAYED = ["migrate", "release", "finish-save"]


async def takes_it(far: Far) -> None:
    await far.takes()
    await far.hear(Commit)
    await far.say(Arrived(77))


async def is_not_asked(far: Far) -> None:
    """It takes it, and is never told that it may run."""
    await far.takes()
    assert await far.over()


def tells(*answers: Message) -> Script:
    """Of what it is asked."""

    async def tell(far: Far) -> None:
        await far.hear(Query)
        await far.say(*answers)

    return tell


async def migrates(host: Host, targets: Targets, **more: Any) -> Any:
    return await host.task("migrate", {**targets.where, **more}, domain="web")


async def fails(host: Host, targets: Targets, **more: Any) -> ApiError:
    return await host.refusal(migrates(host, targets, **more))


def goes_on(host: Host, live: Live, said: list[str]) -> None:
    """As if nothing had been, after its process was asked this."""
    assert host.names == ["web"]
    assert words(live) == said
    assert (live.record.leaving, live.record.wants) == ({}, [])
    saved = read_json(live.folder / "record.json")
    assert saved["leaving"] == {}
    assert "migrated" not in host.told(UUID)


async def at_once(far: Far) -> None:
    """Before it is asked anything."""


async def when_offered(far: Far) -> None:
    await far.hear(Offer)


async def in_the_stream(far: Far) -> None:
    await far.hear(Offer)
    await far.say(Accepted())
    frame = await within(far.wire.receive())
    assert frame.kind == DATA


async def after_the_stream(far: Far) -> None:
    await far.hear(Offer)
    await far.say(Accepted())
    await far.stream()


async def when_loaded(far: Far) -> None:
    await far.takes()


async def when_committed(far: Far) -> None:
    await far.takes()
    await far.hear(Commit)


Step = Callable[[Far], Awaitable[None]]
