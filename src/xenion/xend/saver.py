"""Writes a domain into a file: to end, or to go on with what is on its disks fixed at the same moment, or without."""

import asyncio
import math
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

from xenion.api.errors import ApiError
from xenion.api.installed import version_of
from xenion.domain.saved.format import SaveError
from xenion.xend import savedfile, switching
from xenion.xend.attaching import Attaching
from xenion.xend.devices import Devices
from xenion.xend.disks import overlay
from xenion.xend.disks.layers import all_layers
from xenion.xend.live import Live
from xenion.xend.part import Part
from xenion.xend.sink import Sink
from xenion.xend.switching import Switching
from xenion.xend.tasks import RunningTask
from xenion.xend.writing import give_up, remarks_of, written

ENDING_S = 30.0
SAVING = "saving the domain"
Noted = Callable[[str, int], None]
"""Writes down that there is a checkpoint: the id of what is kept of its disks, and the size of its file. ApiError."""


class Saver:
    """All that it tells is for the API. ApiError: the domain goes on, unless the message says otherwise."""

    def __init__(self, devices: Devices, attaching: Attaching) -> None:
        self._devices = devices
        self._attaching = attaching

    async def end(self, live: Live, task: RunningTask, sink: Sink, *, ask: bool) -> dict[str, Any]:
        answer = await _from_process(live, task, sink, _fields(live, ask, keep=False))
        async with _going_on_if_it_fails(live):
            host, remarks = savedfile.host_state(live)
            await sink.settle(host)
            await asyncio.to_thread(overlay.keep, live.logs)
            task.committed = True  # somebody could let it go on in a moment
            await sink.finish(host)
        await _finish(live, sink)
        await _ended(live, sink)
        return {"size": sink.size, "remarks": [*remarks_of(answer), *remarks]}

    async def keep(self, live: Live, task: RunningTask, sink: Sink, *, ask: bool) -> dict[str, Any]:
        """Its memory alone, of a domain that may write to its disks."""
        answer = await _from_process(live, task, sink, _fields(live, ask, keep=True))
        async with _going_on_if_it_fails(live):
            host, remarks = savedfile.host_state(live)
            await sink.settle(host)
            await sink.finish(host)
        task.committed = True
        return {**_kept(answer, sink.size), "remarks": [*remarks_of(answer), *remarks]}

    async def fix(
        self, live: Live, task: RunningTask, part: Part, *, ask: bool, note: Noted
    ) -> dict[str, Any]:
        """Its memory, and what is on its disks."""
        point = uuid4().hex

        def figures(found: dict[str, float]) -> None:
            switched.figures(found)
            if switching.REST not in found:
                task.tell(found)

        task.step("preparing its disks")
        async with (
            self._attaching.turn(live),
            self._devices.layers(live.record.logs),
            Switching(live, self._devices, self._attaching, point) as switched,
            _going_on_if_it_fails(live),
        ):
            fields = {**_fields(live, ask, keep=True), "switch": switched.any}
            try:
                answer = await written(live, task, SAVING, "save", part.fd, fields, figures)
            except ApiError:
                await switched.why()
                raise
            fixed = await switched.fixed()
            point = point if fixed else ""
            host = await asyncio.to_thread(savedfile.fixed_state, live, fixed, point)
            await asyncio.to_thread(savedfile.append_host, part.fd, host)
            _noted(part, point, note)
            switched.kept = task.committed = True
        return {**_kept(answer, os.fstat(part.fd).st_size), "remarks": remarks_of(answer)}


def _noted(part: Part, point: str, note: Noted) -> None:
    """It has its name, and is known. ApiError: neither."""
    size = part.finish()
    try:
        note(point, size)
    except ApiError:
        part.withdraw()
        raise


def _kept(answer: dict[str, Any], size: int) -> dict[str, Any]:
    return {"held_s": _seconds(answer.get("held_s")), "size": size}


async def _from_process(live: Live, task: RunningTask, sink: Sink, fields: dict[str, Any]) -> dict[str, Any]:
    """Its answer, when all that it has written is in. ApiError."""
    whole = False
    try:
        async with sink.from_process() as fd:
            answer = await written(live, task, SAVING, "save", fd, fields, task.tell, lambda: sink.size)
            whole = True
    except BaseException as error:
        if whole:
            await give_up(live, "save")
        if isinstance(error, SaveError | OSError):
            raise _not_saved(live, error) from error
        raise
    return answer


@asynccontextmanager
async def _going_on_if_it_fails(live: Live) -> AsyncIterator[None]:
    """ApiError."""
    try:
        yield
    except BaseException as error:
        await give_up(live, "save")
        if isinstance(error, SaveError | OSError):
            raise _not_saved(live, error) from error
        raise


def _not_saved(live: Live, error: Exception) -> ApiError:
    return ApiError("failed", f"{live.name} cannot be saved: {error}; it goes on")


def _fields(live: Live, ask: bool, *, keep: bool) -> dict[str, Any]:
    """What the process is told."""
    has = live.record.config.to_mapping()
    devices = {kind: has.get(kind, []) for kind in ("disks", "vifs")}
    return {"by": version_of("xenion"), "ask": ask, "keep": keep, **devices}


def _seconds(said: Any) -> float:
    """The process may be its guest's."""
    return float(said) if type(said) in (int, float) and 0 <= said < math.inf else 0.0


async def _finish(live: Live, sink: Sink) -> None:
    """ApiError. Only where it is sure that the guest has gone on is the file given up: it may be all that is left."""
    try:
        finished = await live.ask("finish-save", keep=False)
    except ApiError as error:
        raise ApiError(error.code, f"the file is whole and stays, but {error.message}") from error
    if finished.get("saved") is not True:
        sink.withdraw()
        raise ApiError("wrong-state", f"{live.name} is not saved: it has gone on")


async def _ended(live: Live, sink: Sink) -> None:
    """Storage daemons have a last word to write into their images. ApiError."""
    try:
        await asyncio.wait_for(live.gone.wait(), ENDING_S)
        for layers in all_layers(live.logs):
            layers.settled()
        await sink.append(savedfile.host_state(live)[0])
    except TimeoutError:
        raise ApiError(
            "failed", f"{live.name} is saved, but its process does not end: `xm destroy` ends it"
        ) from None
    except (SaveError, OSError) as error:
        raise ApiError(
            "failed", f"{live.name} is saved, but how its disks were left is not noted: {error}"
        ) from error
