"""create, define, delete, start: how domains come to be and are forgotten."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from xenion.api import types as t
from xenion.api.errors import ApiError
from xenion.config.domain import ConfigError, DomainConfig
from xenion.xend import suspended
from xenion.xend.call import Call, Handler
from xenion.xend.handlers.listing import shown
from xenion.xend.live import Live
from xenion.xend.managed import Managed
from xenion.xend.services import Services
from xenion.xend.tasks import RunningTask


def config_of(call: Call) -> DomainConfig:
    """ApiError (bad-configuration)."""
    try:
        return DomainConfig.from_mapping(call.body["config"])
    except ConfigError as error:
        raise ApiError("bad-configuration", str(error)) from error


class Creation:
    def __init__(self, services: Services) -> None:
        self._services = services

    def handlers(self) -> Mapping[str, Handler]:
        return {"create": self._create, "define": self._define, "delete": self._delete, "start": self._start}

    async def _create(self, call: Call) -> RunningTask:
        config, request = config_of(call), call.body.get("request", "")
        return await self._begin("create", config, call, request)

    async def _start(self, call: Call) -> RunningTask:
        found = self._services.registry.find(call.parameters["domain"])
        request = call.body.get("request", "")
        if isinstance(found, Managed):
            return await self._begin("start", found.config, call, request, self._suspended(found, call))
        if request and found.record.request == request:
            return await self._begin("start", found.record.config, call, request)
        raise ApiError("wrong-state", f"{found.name} is running already")

    def _suspended(self, found: Managed, call: Call) -> Path | None:
        """The folder of one whose memory is to be lost. ApiError (wrong-state): it is not to be."""
        state, name = self._services.where.logs(found.logs), found.name
        if not suspended.is_suspended(state):
            return None
        if call.body.get("anew"):
            return state
        raise ApiError(
            "wrong-state",
            f"{name} is suspended: `xm resume {name}` lets it go on, --anew begins anew and loses what it was at",
        )

    async def _begin(
        self, action: str, config: DomainConfig, call: Call, request: str, lost: Path | None = None
    ) -> RunningTask:
        """What can be told at once is refused at once; a repeated request finds what its first one did. `lost`: of a
        suspended domain."""
        starter, tasks = self._services.starter, self._services.tasks
        managed, paused = action == "start", bool(call.body.get("paused"))
        if tasks.of_request(request) is None and starter.earlier(request) is None:
            await starter.check(config, managed=managed)
        if (running := tasks.of_request(request)) is not None:
            return running

        async def work(task: RunningTask) -> dict[str, Any]:
            if lost is not None:
                suspended.drop(lost)
            domain = await starter.start(config, managed=managed, paused=paused, request=request, task=task)
            return {"domain": domain}

        return tasks.start(action, config.name, work, request)

    async def _define(self, call: Call) -> t.Domain:
        """Again under the same name: the definition is replaced, a running domain goes on as it is."""
        config, registry = config_of(call), self._services.registry
        known = registry.managed.named(config.name)
        uuid = config.uuid or (known.uuid if known is not None else str(uuid4()))
        if known is not None and known.uuid != uuid:
            raise ApiError("already-exists", f"{config.name} is defined with the UUID {known.uuid}")
        other = registry.managed.get(uuid)
        if other is not None and other.name != config.name:
            raise ApiError("already-exists", f"the UUID {uuid} is that of {other.name}")
        if known is None:
            registry.check_name_is_free(config.name, uuid)
            if registry.is_running(uuid):
                raise ApiError("already-exists", f"the UUID {uuid} is that of a domain that runs")
        managed = Managed(replace(config, uuid=uuid), known.logs if known is not None else config.name)
        registry.managed.put(managed)
        return shown(self._services, registry.live.get(uuid) or managed)

    async def _delete(self, call: Call) -> t.Nothing:
        registry = self._services.registry
        found = registry.find(call.parameters["domain"])
        managed = registry.managed.get(found.uuid)
        if managed is None:
            raise ApiError("wrong-state", f"{found.name} is not a managed domain: `xm destroy` ends it")
        if isinstance(found, Live):
            raise ApiError("wrong-state", f"{found.name} is running: shut it down or destroy it first")
        registry.managed.forget(managed)
        suspended.drop(self._services.where.logs(managed.logs))
        return {}
