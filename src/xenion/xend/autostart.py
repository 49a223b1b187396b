"""Managed domains at the start and at the end of xend: on_xend_start and on_xend_stop."""

import asyncio
from contextlib import suppress

from xenion.api.errors import ApiError
from xenion.config.domain import XendStart, XendStop
from xenion.xend.call import Call, Handler, Peer
from xenion.xend.live import Live
from xenion.xend.managed import Managed
from xenion.xend.services import Services

STOP_S = 60.0
XEND = Peer("xend")


async def start_all(services: Services, start: Handler) -> None:
    """Once after each start of the host: what was shut down since stays down. `start`: the action's handler.

    An xend that is killed meanwhile leaves the rest to the next one. OSError.
    """
    mark = services.where.run / "autostarted"
    if mark.exists():
        return
    due = [managed for managed in services.registry.managed if _is_due(services, managed)]
    await asyncio.gather(*(_start(services, start, managed) for managed in due))
    mark.touch(mode=0o600)


def _is_due(services: Services, managed: Managed) -> bool:
    """It has not run yet since the host was started."""
    starts = managed.config.on_xend_start == XendStart.START
    return (
        starts and managed.uuid not in services.registry.live and services.outcomes.get(managed.uuid) is None
    )


async def _start(services: Services, start: Handler, managed: Managed) -> None:
    """Returns when it runs or was refused, which is in the event log."""
    with suppress(ApiError):
        task = await start(Call(XEND, {"domain": managed.uuid}))
        await services.tasks.get(task["id"]).over()


async def stop_all(services: Services) -> None:
    """Domains go on, but for managed ones whose on_xend_stop says otherwise."""
    leaving = []
    for live in list(services.registry.live.values()):
        what = live.record.config.on_xend_stop
        if live.record.managed and what != XendStop.IGNORE:
            leaving.append(_end(live, gently=what == XendStop.SHUTDOWN))
    await asyncio.gather(*leaving)


async def _end(live: Live, *, gently: bool) -> None:
    with suppress(ApiError, TimeoutError):
        if gently:
            await live.ask("shutdown", mode="poweroff")
            await asyncio.wait_for(live.gone.wait(), STOP_S)
    if not live.gone.is_set():
        with suppress(ApiError):
            await live.stop()
