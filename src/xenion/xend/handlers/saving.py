"""save, restore: a domain into a file and back."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from xenion.api.errors import ApiError
from xenion.xend import switching
from xenion.xend.call import Call, Handler
from xenion.xend.checkpoints import Checkpoints
from xenion.xend.part import Part, file_path
from xenion.xend.services import Services
from xenion.xend.tasks import RunningTask


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
        fix, saver, kept = (
            keep and not call.body.get("memory_only"),
            self._services.saver,
            Checkpoints(live.logs),
        )
        coming = kept.named_by(path) if fix else None
        if fix:
            switching.check_switchable(live)
        part = Part(live, path)

        def note(point: str, size: int) -> None:
            if point and coming is not None:
                coming.add(point, size)
            else:
                kept.replaced(path)

        async def work(task: RunningTask) -> dict[str, Any]:
            try:
                if fix:
                    told = await saver.fix(live, task, part, ask=ask, note=note)
                elif keep:
                    told = await saver.keep(live, task, part, ask=ask)
                else:
                    told = await saver.end(live, task, part, ask=ask)
                if not fix:
                    with suppress(ApiError):  # who lists them is told
                        kept.replaced(path)
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
        path, paused, name = (
            file_path(call.body["path"]),
            bool(call.body.get("paused")),
            call.body.get("name"),
        )
        back, force = bool(call.body.get("back")), bool(call.body.get("force"))
        restorer = self._services.restorer
        ready = await restorer.open(path, name=name, back=back, force=force)

        async def work(task: RunningTask) -> dict[str, Any]:
            with ready:
                return {"domain": await restorer.start(ready, task, paused=paused)}

        try:
            return self._services.tasks.start("restore", ready.config.name, work)
        except BaseException:
            ready.saved.close()
            raise
