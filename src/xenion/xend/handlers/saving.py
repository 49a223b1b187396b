"""save, restore: a domain into a file and back."""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from xenion.api.errors import ApiError
from xenion.xend import switching
from xenion.xend.call import Call, Handler
from xenion.xend.checkpoints import Checkpoints
from xenion.xend.live import Live
from xenion.xend.part import Part, file_path
from xenion.xend.piped import Piped, is_pipe
from xenion.xend.services import Services
from xenion.xend.sink import IntoFile
from xenion.xend.tasks import RunningTask
from xenion.xend.writing import begin, begin_with


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
        saver, kept = self._services.saver, Checkpoints(live.logs)
        fix = keep and not call.body.get("memory_only")
        if is_pipe(path):
            return self._pipe(live, path, ask=ask, keep=keep, fix=fix)
        named = Path(os.path.realpath(path))  # as long as what it may lead to is the old one
        if fix:
            switching.check_switchable(live)
            coming = kept.named_by(path)

        async def write(task: RunningTask, part: Part) -> dict[str, Any]:
            if fix:
                told = await saver.fix(live, task, part, ask=ask, note=coming.add)
            else:
                told = await (saver.keep if keep else saver.end)(live, task, IntoFile(part), ask=ask)
                with suppress(ApiError):  # who lists them is told
                    kept.replaced(named)
            return {"path": str(path), **told}

        return begin(self._services.tasks, "save", live, path, write)

    def _pipe(self, live: Live, path: Path, *, ask: bool, keep: bool, fix: bool) -> RunningTask:
        """What is kept of disks would have no file that it belongs to. ApiError."""
        if fix and any(disk.writable for disk in live.record.config.disks):
            raise ApiError(
                "refused",
                f"{path}: a checkpoint that keeps what is on disks has to be in a file, not in a pipe",
            )
        saver = self._services.saver

        async def write(task: RunningTask, piped: Piped) -> dict[str, Any]:
            told = await (saver.keep if keep else saver.end)(live, task, piped, ask=ask)
            return {"path": str(path), **told}

        return begin_with(self._services.tasks, "save", live, Piped(path), write)

    # --- restore

    async def _restore(self, call: Call) -> RunningTask:
        """What can be told at once is refused at once."""
        path, name, restorer = file_path(call.body["path"]), call.body.get("name"), self._services.restorer
        paused, back, force = (bool(call.body.get(word)) for word in ("paused", "back", "force"))
        ready = await restorer.open(path, name=name, back=back, force=force)

        async def work(task: RunningTask) -> dict[str, Any]:
            with ready:
                return {"domain": await restorer.start(ready, task, paused=paused)}

        try:
            return self._services.tasks.start("restore", ready.config.name, work)
        except BaseException:
            ready.saved.close()
            raise
