"""suspend, resume: managed domains whose memory is kept by xend until they go on."""

from collections.abc import Mapping
from typing import Any

from xenion.api.errors import ApiError
from xenion.xend import suspended
from xenion.xend.call import Call, Handler
from xenion.xend.managed import Managed
from xenion.xend.part import Part
from xenion.xend.services import Services
from xenion.xend.sink import IntoFile
from xenion.xend.suspended import SUSPENDED
from xenion.xend.tasks import RunningTask
from xenion.xend.writing import begin


class Suspending:
    def __init__(self, services: Services) -> None:
        self._services = services

    def handlers(self) -> Mapping[str, Handler]:
        return {"suspend": self._suspend, "resume": self._resume}

    async def _suspend(self, call: Call) -> RunningTask:
        live = self._services.registry.need_live(call.parameters["domain"])
        ask = not call.body.get("as_it_stands")
        if not live.record.managed:
            raise ApiError(
                "wrong-state",
                f"{live.name} is not a managed domain: `xm save` writes it to a file of your own",
            )

        async def write(task: RunningTask, part: Part) -> dict[str, Any]:
            return await self._services.saver.end(live, task, IntoFile(part), ask=ask)

        return begin(self._services.tasks, "suspend", live, live.logs / SUSPENDED, write)

    async def _resume(self, call: Call) -> RunningTask:
        found = self._services.registry.find(call.parameters["domain"])
        if not isinstance(found, Managed):
            raise ApiError("wrong-state", f"{found.name} is running already")
        state, paused = self._services.where.logs(found.logs), bool(call.body.get("paused"))
        restorer = self._services.restorer
        if not suspended.is_suspended(state):
            raise ApiError("wrong-state", f"{found.name} is not suspended: `xm start {found.name}` starts it")
        path = suspended.take(state)
        try:
            ready = await restorer.open(path, name=found.name)
        except BaseException:
            suspended.give_back(state)
            raise

        async def work(task: RunningTask) -> dict[str, Any]:
            with ready:
                try:
                    domain = await restorer.start(ready, task, paused=paused)
                except BaseException as error:
                    if not restorer.goes_on(ready, error, task):
                        suspended.give_back(state)
                    raise
                suspended.drop(state)
                return {"domain": domain}

        try:
            return self._services.tasks.start("resume", found.name, work)
        except BaseException:
            ready.saved.close()
            suspended.give_back(state)
            raise
