"""Lets a domain go on from its file: all that can be told at once is refused before anything is done."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from xenion.api import types as t
from xenion.api.errors import ApiError
from xenion.config.domain import ConfigError, DomainConfig
from xenion.xend import savedfile
from xenion.xend.devices import Devices
from xenion.xend.going_back import GoingBack
from xenion.xend.registry import Registry
from xenion.xend.savedfile import OpenSaved
from xenion.xend.starter import Saved, Starter
from xenion.xend.tasks import RunningTask


@dataclass(frozen=True, slots=True)
class Ready:
    """A domain that could go on now; with `with`, its file is closed behind it."""

    saved: OpenSaved
    config: DomainConfig
    managed: bool
    going_back: GoingBack | None

    def __enter__(self) -> "Ready":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.saved.close()


class Restorer:
    def __init__(self, registry: Registry, starter: Starter, devices: Devices) -> None:
        self._registry = registry
        self._starter = starter
        self._devices = devices

    async def open(
        self, path: Path, *, name: str | None = None, back: bool = False, force: bool = False
    ) -> Ready:
        """`name`: another one than it had; `back`: its disks go back, too; `force`: whatever they are. ApiError."""
        saved = await asyncio.to_thread(savedfile.open_saved, path)
        try:
            config, where = _config_of(saved, name), self._registry.where
            managed = self._registry.managed.get(config.uuid) is not None
            await self._starter.check(config, managed=managed)
            if saved.host.point and (back or not force):
                await asyncio.to_thread(savedfile.check_points, saved, config, where, back=back)
                return Ready(saved, config, managed, GoingBack(self._devices, saved.host.point, allowed=back))
            await asyncio.to_thread(savedfile.check_disks, saved, config, where, force=force)
        except BaseException:
            saved.close()
            raise
        return Ready(saved, config, managed, None)

    async def start(self, ready: Ready, task: RunningTask, *, paused: bool) -> t.Domain:
        """ApiError: it does not run, and its disks are as they were."""
        async with self._devices.layers(ready.config.name):
            return await self._start(ready, task, paused=paused)

    def goes_on(self, ready: Ready, error: BaseException, task: RunningTask) -> bool:
        """xend ends meanwhile, and the domain has a process, which the next one finds."""
        ends = isinstance(error, asyncio.CancelledError) and not task.cancelled
        return ends and ready.config.uuid in self._registry.live

    async def _start(self, ready: Ready, task: RunningTask, *, paused: bool) -> t.Domain:
        saved, back = ready.saved, ready.going_back
        try:
            domain = await self._starter.start(
                ready.config,
                managed=ready.managed,
                paused=paused,
                lasting=saved.host.lasting,
                task=task,
                saved=Saved(saved.fd, saved.head.domid, back=back),
            )
        except BaseException as error:
            if back is not None and not self.goes_on(ready, error, task):
                back.undo()
            raise
        if back is not None:
            back.finish()
        return domain


def _config_of(saved: OpenSaved, name: str | None) -> DomainConfig:
    named = {} if name is None else {"name": name}
    try:
        return DomainConfig.from_mapping({**saved.head.config, **named})
    except ConfigError as error:
        raise ApiError("refused", f"{saved.path}: its configuration cannot be used: {error}") from error
