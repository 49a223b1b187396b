"""shutdown, destroy, pause, unpause: whether the guest runs."""

from collections.abc import Mapping
from typing import Any

from xenion.api import types as t
from xenion.xend.call import Call, Handler
from xenion.xend.live import Live
from xenion.xend.services import Services
from xenion.xend.tasks import RunningTask


class Power:
    def __init__(self, services: Services) -> None:
        self._services = services
        self._waiting: dict[tuple[str, str], RunningTask] = {}
        """By UUID and action: a guest that is asked again is waited for once."""

    def handlers(self) -> Mapping[str, Handler]:
        return {
            "shutdown": self._shutdown,
            "destroy": self._destroy,
            "pause": self._pause,
            "unpause": self._unpause,
        }

    def _live(self, call: Call) -> Live:
        return self._services.registry.need_live(call.parameters["domain"])

    async def _shutdown(self, call: Call) -> RunningTask:
        """The request is placed before the answer; the task waits for the guest."""
        live, mode = self._live(call), call.body.get("mode", "poweroff")
        action = "reboot" if mode == "reboot" else "shutdown"
        boot = live.condition.boot
        listens = (await live.ask("shutdown", mode=mode)).get("listens")

        async def work(task: RunningTask) -> dict[str, Any]:
            said = (
                "waiting for the guest" if listens else "the guest has not said that it hears such requests"
            )
            task.step(said)
            await live.until(lambda: live.condition.boot > boot or not live.alive)
            over = not live.alive
            return {
                "reason": live.condition.reason if over else "reboot",
                "boots": live.condition.boot,
                "over": over,
            }

        waiting = self._waiting.get((live.uuid, action))
        if waiting is None or waiting.state != "running" or waiting.cancelled:
            waiting = self._services.tasks.start(action, live.name, work)
            self._waiting[live.uuid, action] = waiting
            waiting.ended.append(self._forget)
        return waiting

    async def _forget(self, task: RunningTask) -> None:
        self._waiting = {key: other for key, other in self._waiting.items() if other is not task}

    async def _destroy(self, call: Call) -> t.Nothing:
        await self._live(call).stop()
        return {}

    async def _pause(self, call: Call) -> t.Nothing:
        await self._live(call).ask("pause")
        return {}

    async def _unpause(self, call: Call) -> t.Nothing:
        await self._live(call).ask("unpause")
        return {}
