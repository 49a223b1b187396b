"""A stand-in that moves: what is saved comes from another host's stream, and it may leave for one.

Files in its xend's folder say how it behaves, so that one host's does and the other's does not. Of one that comes:
no-load, echoes (numbers in its stream), refuse-load, refuse-late, die-load, deaf (to everything), no-arrive,
mute-arrive, die-arrive, die-late; of one that leaves: no-migrate, slow-migrate, endless, no-echo, keeps (the stream
open), no-release, die-release, no-finish, mute-finish.
"""

import fcntl
import json
import os
import signal
import struct
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[4]))
from tests.unit.xend.standin import Answer, Message, Standin

MEMORY = b"memory" * 1000
UNLOCK = struct.pack("hhqqi4x", fcntl.F_UNLCK, os.SEEK_SET, 0, 0, 0)
"""struct flock (fcntl.h), of a whole file."""


def pour(fd: int) -> None:
    """Until nobody takes it any more."""
    with suppress(OSError):
        while True:
            os.write(fd, MEMORY)
    os.close(fd)


class Moving(Standin):
    """`stage`: "", coming, writing, whole, released."""

    def __init__(self, order: dict[str, Any]) -> None:
        super().__init__(order)
        self.stage = "coming" if order["arriving"] else ""
        self.writing: tuple[Any, int] | None = None
        self.kept: list[int] = []

    def has(self, word: str) -> bool:
        journal = Path(f"/proc/self/fd/{self.fds['journal']}").readlink()
        return (journal.parents[3] / word).exists()

    def boot(self) -> None:
        if self.stage != "coming":
            super().boot()
        elif self.has("deaf"):
            signal.pause()
        elif not self.has("no-load"):
            threading.Thread(target=self.load, daemon=True).start()

    def load(self) -> None:
        if self.has("die-load"):
            os._exit(3)
        size = 0
        while data := os.read(self.fds["saved"], 1 << 16):
            size += len(data)
            if self.has("echoes"):
                self.add("echo", number=int(data))
            if size > 1 << 20 and self.has("refuse-late"):
                break
        if self.has("refuse-load") or self.has("refuse-late"):
            self.add("refused", text="it is no domain")
            self.leave(2)
        self.asked.append({"do": "loads", "size": size})
        self.add("loaded")

    def on_arrive(self, request: Message, fds: list[int]) -> Answer:
        if self.has("no-arrive"):
            return "not now"
        if self.has("mute-arrive"):
            return None
        if self.has("die-arrive"):
            os._exit(3)
        if self.stage == "coming":
            self.stage = ""
            self.boot()
        if self.has("die-late"):
            os._exit(3)
        return {}

    def on_migrate(self, request: Message, fds: list[int]) -> Answer:
        if self.has("no-migrate"):
            return "it is being saved or moved already"
        self.stage = "writing"
        for figures in ({"round": 1, "pages": 7}, {"held": 1}):
            self.tell(request, figures=figures)
        self.tell(request, progress=[1, 2])
        if self.has("endless"):
            threading.Thread(target=pour, args=[fds.pop()], daemon=True).start()
            return None
        os.write(fds[0], MEMORY)
        if self.has("slow-migrate"):
            return None
        if self.has("keeps"):
            self.kept.append(fds.pop())
        self.stage = "whole"
        return {"remarks": ["it is a stand-in"]}

    def tell(self, request: Message, **said: Any) -> None:
        self.send(self.asker, {"id": request["id"], **said})

    def on_echo(self, request: Message, fds: list[int]) -> Answer:
        return "number makes no sense" if self.has("no-echo") else {}

    def on_cancel_migrate(self, request: Message, fds: list[int]) -> Answer:
        if self.stage in ("writing", "whole"):
            self.stage = ""
        if self.writing is not None:
            link, number = self.writing
            self.writing = None
            self.send(link, {"id": number, "error": "the save was cancelled"})
        return {}

    def on_release(self, request: Message, fds: list[int]) -> Answer:
        if self.has("die-release"):
            os._exit(3)
        if self.has("no-release") or self.stage not in ("whole", "released"):
            return "the domain has gone on"
        self.stage = "released"
        for device in self.devices.values():
            for fd in device["fds"]:
                fcntl.fcntl(fd, fcntl.F_OFD_SETLK, UNLOCK)
        return {}

    def on_finish_save(self, request: Message, fds: list[int]) -> Answer:
        if self.has("mute-finish"):
            return None
        if self.has("no-finish"):
            return "xvda: another domain uses it"
        held = self.stage in ("whole", "released")
        self.stage = "" if request["keep"] else "over"
        return {"saved": held}

    def answer(self, link: Any, request: Message, fds: list[int]) -> None:
        before, self.asker = self.stage, link
        super().answer(link, request, fds)
        if request["do"] == "migrate" and self.stage == "writing":
            self.writing = link, request["id"]
        if self.stage == "over" and before != "over":
            self.add("ended", reason=request["reason"], action="destroy", report=False, core=False)
            self.leave(0)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with os.fdopen(int(sys.argv[1]), "rb") as file:
        found = json.load(file)
    Moving(found).run()
