"""Managed domains at the start and at the end of xend: on_xend_start and on_xend_stop."""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

from xenion.api.errors import ApiError
from xenion.config.domain import XendStart, XendStop
from xenion.xend import host
from xenion.xend.call import Call, Handler, Handlers, Peer
from xenion.xend.live import Live
from xenion.xend.managed import Managed
from xenion.xend.services import Services
from xenion.xend.storage import read_json, write_json
from xenion.xend.suspended import is_suspended

STOP_S = 60.0
XEND = Peer("xend")
MARK = "autostarted.json"


async def start_all(services: Services, handlers: Handlers) -> None:
    """Once after each start of the host: what was shut down since stays down. One that is suspended goes on.

    An xend that is killed meanwhile leaves the rest to the next one. OSError.
    """
    path = services.where.run / MARK
    mark = _mark(path)
    if mark["complete"]:
        return
    due = [managed for managed in services.registry.managed if _is_due(services, managed, mark)]
    for begun in asyncio.as_completed([_start(services, handlers, managed) for managed in due]):
        mark["started"].append(await begun)
        write_json(path, mark)
    write_json(path, {**mark, "complete": True})


def _mark(path: Path) -> dict[str, Any]:
    """What has been started since the host was: the file may be from before."""
    fresh = {"host": host.boot_id(), "started": [], "complete": False}
    try:
        found = read_json(path)
    except (OSError, ValueError):
        return fresh
    return dict(found) if isinstance(found, dict) and found.get("host") == fresh["host"] else fresh


def _is_due(services: Services, managed: Managed, mark: dict[str, Any]) -> bool:
    starts = managed.config.on_xend_start == XendStart.START
    return starts and managed.uuid not in services.registry.live and managed.uuid not in mark["started"]


async def _start(services: Services, handlers: Handlers, managed: Managed) -> str:
    """Its UUID, when it runs or was refused, which is in the event log."""
    begin = handlers["resume" if is_suspended(services.where.logs(managed.logs)) else "start"]
    with suppress(ApiError):
        task = await begin(Call(XEND, {"domain": managed.uuid}))
        await services.tasks.get(task["id"]).over()
    return managed.uuid


async def stop_all(services: Services, suspend: Handler) -> None:
    """Domains go on, but for managed ones whose on_xend_stop says otherwise. `suspend`: the action's handler."""
    leaving = []
    for live in list(services.registry.live.values()):
        what = live.record.config.on_xend_stop
        if live.record.managed and what == XendStop.SUSPEND:
            leaving.append(_suspend(services, suspend, live))
        elif live.record.managed and what != XendStop.IGNORE:
            leaving.append(_end(live, gently=what == XendStop.SHUTDOWN))
    await asyncio.gather(*leaving)


async def _suspend(services: Services, suspend: Handler, live: Live) -> None:
    """One that cannot be suspended goes on, and the event log tells why."""
    with suppress(ApiError):
        task = await suspend(Call(XEND, {"domain": live.uuid}))
        await services.tasks.get(task["id"]).over()


async def _end(live: Live, *, gently: bool) -> None:
    with suppress(ApiError, TimeoutError):
        if gently:
            await live.ask("shutdown", mode="poweroff")
            await asyncio.wait_for(live.gone.wait(), STOP_S)
    if not live.gone.is_set():
        with suppress(ApiError):
            await live.stop()
