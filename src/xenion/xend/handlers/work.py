"""tasks, task, cancel: long operations."""

from collections.abc import Mapping

from xenion.api import types as t
from xenion.xend.call import Call, Handler
from xenion.xend.services import Services


class Work:
    def __init__(self, services: Services) -> None:
        self._services = services

    def handlers(self) -> Mapping[str, Handler]:
        return {"tasks": self._tasks, "task": self._task, "cancel": self._cancel}

    async def _tasks(self, call: Call) -> t.Tasks:
        return {"tasks": [task.shown() for task in self._services.tasks.all()]}

    async def _task(self, call: Call) -> t.Task:
        task = self._services.tasks.get(call.parameters["task"])
        if wait := call.query.get("wait", 0):
            await task.wait(wait, call.query.get("seen"))
        return task.shown()

    async def _cancel(self, call: Call) -> t.Task:
        task = self._services.tasks.get(call.parameters["task"])
        await task.cancel()
        return task.shown()
