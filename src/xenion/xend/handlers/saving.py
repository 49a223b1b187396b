"""save, restore: a domain into a file and back."""

import asyncio
import math
import os
from collections.abc import Mapping
from typing import Any

from xenion.api.errors import ApiError
from xenion.api.installed import version_of
from xenion.config.domain import ConfigError, DomainConfig
from xenion.domain.saved.format import SaveError
from xenion.xend import savedfile
from xenion.xend.call import Call, Handler
from xenion.xend.disks import overlay
from xenion.xend.live import Live
from xenion.xend.part import Part, file_path
from xenion.xend.savedfile import OpenSaved
from xenion.xend.services import Services
from xenion.xend.starter import Saved
from xenion.xend.tasks import RunningTask
from xenion.xend.writing import give_up, remarks_of, written

ENDING_S = 30.0


class Saving:
    def __init__(self, services: Services) -> None:
        self._services = services

    def handlers(self) -> Mapping[str, Handler]:
        return {"save": self._save, "restore": self._restore}

    # --- save

    async def _save(self, call: Call) -> RunningTask:
        live = self._services.registry.need_live(call.parameters["domain"])
        path, keep = file_path(call.body["path"]), bool(call.body.get("keep"))
        ask = not call.body.get("as_it_stands")
        _check_savable(live, keep=keep)
        part = Part(live, path)

        async def work(task: RunningTask) -> dict[str, Any]:
            try:
                told = await _saved(live, task, part, keep=keep, ask=ask)
            finally:
                part.close()
            return {"path": str(path), **told}

        try:
            return self._services.tasks.start("save", live.name, work)
        except ApiError:
            part.close()
            raise

    # --- restore

    async def _restore(self, call: Call) -> RunningTask:
        """What can be told at once is refused at once."""
        path = file_path(call.body["path"])
        paused, force = bool(call.body.get("paused")), bool(call.body.get("force"))
        saved = await asyncio.to_thread(savedfile.open_saved, path)
        try:
            config = _config_of(saved)
            await asyncio.to_thread(savedfile.check_disks, saved, config, self._services.where, force=force)
            managed = self._services.registry.managed.get(config.uuid) is not None
            await self._services.starter.check(config, managed=managed)

            async def work(task: RunningTask) -> dict[str, Any]:
                with saved:
                    domain = await self._services.starter.start(
                        config,
                        managed=managed,
                        paused=paused,
                        lasting=saved.host.lasting,
                        task=task,
                        saved=Saved(saved.fd, saved.head.domid),
                    )
                return {"domain": domain}

            return self._services.tasks.start("restore", config.name, work)
        except BaseException:
            saved.close()
            raise


def _config_of(saved: OpenSaved) -> DomainConfig:
    try:
        return DomainConfig.from_mapping(saved.head.config)
    except ConfigError as error:
        raise ApiError("refused", f"{saved.path}: its configuration cannot be used: {error}") from error


def _check_savable(live: Live, *, keep: bool) -> None:
    """ApiError (refused)."""
    if keep and (written_to := [disk.vdev for disk in live.record.config.disks if disk.writable]):
        raise ApiError(
            "refused",
            f"{live.name} would go on and write to {', '.join(written_to)}, and the file would fit no more: "
            "save it without going on",
        )


async def _saved(live: Live, task: RunningTask, part: Part, *, keep: bool, ask: bool) -> dict[str, Any]:
    """What there is to tell. ApiError: the domain goes on."""
    has = live.record.config.to_mapping()
    devices = {kind: has.get(kind, []) for kind in ("disks", "vifs")}
    fields = {"by": version_of("xenion"), "ask": ask, "keep": keep, **devices}
    answer = await written(live, task, "saving the domain", "save", part.fd, fields, task.tell)
    try:
        host, remarks = savedfile.host_state(live)
        await asyncio.to_thread(savedfile.append_host, part.fd, host)
        if not keep:
            await asyncio.to_thread(overlay.keep, live.logs)
        part.finish()
    except BaseException as error:
        await give_up(live, "save")
        if isinstance(error, SaveError | OSError):
            raise ApiError("failed", f"{live.name} cannot be saved: {error}; it goes on") from error
        raise
    task.committed = True
    told: dict[str, Any] = {"held_s": _seconds(answer.get("held_s"))} if keep else {}
    if not keep:
        await _finish(live, part)
        await _ended(live, part.fd)
    return {**told, "size": os.fstat(part.fd).st_size, "remarks": [*remarks_of(answer), *remarks]}


def _seconds(said: Any) -> float:
    """The process may be its guest's."""
    return float(said) if type(said) in (int, float) and 0 <= said < math.inf else 0.0


async def _finish(live: Live, part: Part) -> None:
    """ApiError. Only where it is sure that the guest has gone on is the file given up: it may be all that is left."""
    try:
        finished = await live.ask("finish-save", keep=False)
    except ApiError as error:
        raise ApiError(error.code, f"the file is whole and stays, but {error.message}") from error
    if finished.get("saved") is not True:
        part.withdraw()
        raise ApiError("wrong-state", f"{live.name} is not saved: it has gone on")


async def _ended(live: Live, fd: int) -> None:
    """Storage daemons have a last word to write into their images. ApiError."""
    try:
        await asyncio.wait_for(live.gone.wait(), ENDING_S)
        await asyncio.to_thread(savedfile.append_host, fd, savedfile.host_state(live)[0])
    except TimeoutError:
        raise ApiError(
            "failed", f"{live.name} is saved, but its process does not end: `xm destroy` ends it"
        ) from None
    except (SaveError, OSError) as error:
        raise ApiError(
            "failed", f"{live.name} is saved, but how its disks were left is not noted: {error}"
        ) from error
