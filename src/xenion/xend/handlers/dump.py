"""dump: a guest's memory as an ELF core file."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xenion.api.errors import ApiError
from xenion.xend.call import Call, Handler
from xenion.xend.live import Live
from xenion.xend.part import Part, file_path
from xenion.xend.services import Services
from xenion.xend.storage import private_folder
from xenion.xend.tasks import RunningTask
from xenion.xend.writing import begin, remarks_of, written


class Dump:
    def __init__(self, services: Services) -> None:
        self._services = services

    def handlers(self) -> Mapping[str, Handler]:
        return {"dump": self._dump}

    async def _dump(self, call: Call) -> RunningTask:
        live = self._services.registry.need_live(call.parameters["domain"])
        path = self._path(live, call.body.get("path", ""))

        async def write(task: RunningTask, part: Part) -> dict[str, Any]:
            answer = await written(
                live, task, "writing the core", "dump", part.fd, {"live": bool(call.body.get("live"))}
            )
            size = part.finish()
            if call.body.get("crash"):
                await live.stop()
            return {"path": str(path), "size": size, "remarks": remarks_of(answer)}

        return begin(self._services.tasks, "dump", live, path, write)

    def _path(self, live: Live, given: str) -> Path:
        """Where the core goes. ApiError."""
        if given:
            return file_path(given)
        stamp = time.strftime("%Y-%m%d-%H%M.%S")
        try:
            folder = private_folder(self._services.where.dumps)
        except OSError as error:
            raise ApiError("refused", f"{error.filename}: {error.strerror}") from error
        return folder / f"{stamp}-{live.name}.{live.domid}.core"
