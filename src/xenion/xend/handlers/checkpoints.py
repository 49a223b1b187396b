"""Checkpoints: made, listed, deleted; their disks' layers merged. `restore` goes back to one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xenion.api import types as t
from xenion.api.errors import ApiError
from xenion.xend import switching
from xenion.xend.call import Call, Handler
from xenion.xend.checkpoints import CHECKPOINTS, Checkpoints
from xenion.xend.disks.layers import LAYERS, all_layers
from xenion.xend.disks.merging import merge
from xenion.xend.live import Live
from xenion.xend.part import Part
from xenion.xend.services import Services
from xenion.xend.tasks import RunningTask
from xenion.xend.writing import begin


class CheckpointActions:
    def __init__(self, services: Services) -> None:
        self._services = services
        self._making: set[Path] = set()

    def handlers(self) -> Mapping[str, Handler]:
        return {
            "checkpoint": self._checkpoint,
            "checkpoints": self._checkpoints,
            "delete_checkpoint": self._delete,
            "merge_checkpoints": self._merge,
        }

    def _state(self, word: str) -> Path:
        """The folder of a domain, which may be over: its checkpoints are still there. ApiError (no-such-domain)."""
        where, registry = self._services.where, self._services.registry
        try:
            found = registry.find(word)
        except ApiError:
            states = where.logs("")
            names = {path.parent.name for part in (CHECKPOINTS, LAYERS) for path in states.glob(f"*/{part}")}
            if word in names:
                return where.logs(word)
            raise
        return found.logs if isinstance(found, Live) else where.logs(found.logs)

    async def _checkpoint(self, call: Call) -> RunningTask:
        live = self._services.registry.need_live(call.parameters["domain"])
        ask, saver = bool(call.body.get("suspend")), self._services.saver
        switching.check_switchable(live)
        coming = Checkpoints(live.logs).named(call.body.get("name", ""))
        if coming.path in self._making:
            raise ApiError("already-exists", f'a checkpoint "{coming.name}" of {live.name} is being made')
        self._making.add(coming.path)

        async def write(task: RunningTask, part: Part) -> dict[str, Any]:
            try:
                told = await saver.fix(live, task, part, ask=ask, note=coming.add)
            finally:
                self._making.discard(coming.path)
            return {"name": coming.name, "path": str(coming.path), **told}

        try:
            return begin(self._services.tasks, "checkpoint", live, coming.path, write)
        except ApiError:
            self._making.discard(coming.path)
            raise

    async def _checkpoints(self, call: Call) -> t.Checkpoints:
        state = self._state(call.parameters["domain"])
        kept = Checkpoints(state)
        return {"domain": state.name, "checkpoints": [kept.shown(one) for one in kept.all()]}

    async def _delete(self, call: Call) -> t.Nothing:
        checkpoints = Checkpoints(self._state(call.parameters["domain"]))
        found = checkpoints.find(call.parameters["checkpoint"])
        async with self._services.devices.layers(checkpoints.domain):
            checkpoints.forget(found)
        return {}

    async def _merge(self, call: Call) -> RunningTask:
        state = self._state(call.parameters["domain"])
        name = state.name
        if any(live.record.logs == name for live in self._services.registry.live.values()):
            raise ApiError(
                "wrong-state", f"{name} runs on what would be merged: shut it down, and merge it then"
            )

        async def work(task: RunningTask) -> dict[str, Any]:
            merged = 0
            closed = self._services.registry.closed(name, f"the disks of {name} are being merged")
            async with self._services.devices.layers(name):
                with closed:
                    Checkpoints(state).forget_unknown()
                    for layers in all_layers(state):
                        async for path in merge(layers):
                            task.step(f"putting {path} into what is below it")
                            merged += 1
            return {"merged": merged}

        return self._services.tasks.start("merge_checkpoints", name, work)
