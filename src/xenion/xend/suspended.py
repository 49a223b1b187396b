"""Managed domains that are suspended: STATE/domains/NAME/suspended.saved has one until it goes on.

While it is being resumed the file has another name. A xend that is killed then leaves it to the next one, which waits
for what has become of the domain: it never goes on twice from one file.
"""

import asyncio
import logging
from collections.abc import Iterable
from pathlib import Path

from xenion.api.errors import ApiError
from xenion.api.folders import Folders
from xenion.xend.live import Live
from xenion.xend.storage import failing, remove, sync_folder

SUSPENDED, RESUMING = "suspended.saved", "resuming.saved"
SAVED = "saved"
"""The reason of an end."""
_logger = logging.getLogger(__name__)


def is_suspended(state: Path) -> bool:
    """`state`: the folder of its logs."""
    return (state / SUSPENDED).exists()


def take(state: Path) -> Path:
    """Nobody else resumes it meanwhile. ApiError (failed)."""
    with failing(state):
        path = (state / SUSPENDED).rename(state / RESUMING)
        sync_folder(state)
    return path


def give_back(state: Path) -> None:
    """It has not gone on. ApiError (failed)."""
    with failing(state):
        (state / RESUMING).rename(state / SUSPENDED)


def drop(state: Path) -> None:
    """It has gone on, or never will; none is fine. ApiError (failed)."""
    with failing(state):
        for name in (SUSPENDED, RESUMING):
            if (state / name).exists():
                remove(state / name)


async def settle(where: Folders, lives: Iterable[Live]) -> None:
    """What a killed xend has left."""
    running = {live.record.logs: live for live in lives}
    resuming = [path.parent for path in sorted(where.logs("").glob(f"*/{RESUMING}"))]
    works = [_resumed(state, running.get(state.name)) for state in resuming]
    works += [
        _went_on(where.logs(name), live) for name, live in running.items() if is_suspended(where.logs(name))
    ]
    for error in await asyncio.gather(*works, return_exceptions=True):
        if isinstance(error, ApiError):
            _logger.error("a suspended domain: %s", error.message)
        elif error is not None:
            raise error


async def _resumed(state: Path, live: Live | None) -> None:
    if live is not None:
        await live.until(lambda: live.condition.boot > 0)
        if live.condition.boot:
            drop(state)
            return
    give_back(state)


async def _went_on(state: Path, live: Live) -> None:
    """The file had its name, and its process had not been told: then it goes on, and the file is good for nothing."""
    await live.until(lambda: live.linked)
    if live.linked and not live.record.leaving:
        await live.ask("finish-save", keep=True)
        if live.condition.reason != SAVED:
            drop(state)
