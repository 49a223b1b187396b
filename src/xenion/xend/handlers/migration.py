"""migrate, resolve: a running domain to another host."""

from collections.abc import Mapping
from typing import Any

from xenion.api.errors import ApiError
from xenion.xend.call import Call, Handler
from xenion.xend.managed import Managed
from xenion.xend.migration.outgoing import How
from xenion.xend.migration.target import Target
from xenion.xend.services import Services
from xenion.xend.settings import MIGRATION_PORT
from xenion.xend.tasks import RunningTask

BYTES_PER_MBIT = 125_000


class Migrating:
    def __init__(self, services: Services) -> None:
        self._services = services

    def handlers(self) -> Mapping[str, Handler]:
        return {"migrate": self._migrate, "resolve": self._resolve}

    async def _migrate(self, call: Call) -> RunningTask:
        live = self._services.registry.need_live(call.parameters["domain"])
        body = call.body
        if not live.alive or not live.condition.boot:
            raise ApiError("wrong-state", f"{live.name} does not run: there is nothing to move")
        if live.record.leaving:
            raise ApiError("wrong-state", f"where {live.name} is is not decided: see `xm migrate --resolve`")
        ssl, ssh = bool(body.get("ssl")), bool(body.get("ssh"))
        if ssl and ssh:
            raise ApiError("bad-request", "ssl and ssh do not go together: what goes through ssh is safe")
        target = Target(body["host"], body.get("port") or MIGRATION_PORT, ssl, ssh)
        how = How(
            live=bool(body.get("live")),
            ask=not (body.get("live") or body.get("as_it_stands")),
            check=bool(body.get("check")),
            same_disks=bool(body.get("same_disks")),
            most_bytes_per_s=body.get("most_mbit_per_s", 0) * BYTES_PER_MBIT,
            worst_ms=body.get("abort_after_downtime_ms"),
        )

        async def work(task: RunningTask) -> dict[str, Any]:
            return await self._services.outgoing.migrate(live, target, how, task)

        return self._services.tasks.start("migrate", live.name, work)

    async def _resolve(self, call: Call) -> None:
        found = self._services.registry.find(call.parameters["domain"])
        here = call.body["goes_on"] == "source"
        if isinstance(found, Managed):
            self._services.decided.resolve_absent(found.uuid, here=here)
        else:
            await self._services.decided.resolve(found, here=here)
