"""xend's end of a domain process's control socket (xenion.domain.control tells the protocol)."""

import asyncio
import json
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from xenion.api.addresses import connect
from xenion.api.errors import ApiError
from xenion.xend.logstate import clean

PACKET_BYTES = 1 << 16
ANSWER_BYTES = 1 << 18
"""All devices that a domain may have, with their counters."""
ANSWER_S = 10.0
MOST_FIGURES, FIGURE_CHARACTERS = 32, 32


class LinkLostError(Exception):
    """The process has closed its end, or has never answered."""


class Link:
    """Connected. `told()` is called when the journal has grown, `lost()` once at the end."""

    def __init__(self, stream: socket.socket, told: Callable[[], None], lost: Callable[[], None]) -> None:
        self._stream = stream
        self._told = told
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._progress: dict[int, Callable[[int, int], None]] = {}
        self._figures: dict[int, Callable[[dict[str, float]], None]] = {}
        self._number = 0
        self.open = True
        self._loop.add_reader(stream, self._on_ready)

    @classmethod
    def connect(cls, path: Path, told: Callable[[], None], lost: Callable[[], None]) -> "Link":
        """At once or not at all: a process that hangs is not waited for. OSError."""
        return cls(connect(path, socket.SOCK_SEQPACKET, timeout=0), told, lost)

    async def ask(
        self,
        what: str,
        *,
        fds: Sequence[int] = (),
        progress: Callable[[int, int], None] | None = None,
        figures: Callable[[dict[str, float]], None] | None = None,
        timeout: float | None = ANSWER_S,
        **fields: Any,
    ) -> dict[str, Any]:
        """The answer. ApiError (wrong-state) with the process's sentence, (too-large); LinkLostError."""
        self._number += 1
        number = self._number
        packet = json.dumps({"id": number, "do": what, **fields}).encode()
        if len(packet) > PACKET_BYTES:
            raise ApiError("too-large", f"{what}: that is more than a domain's process takes at once")
        answer = self._answers[number] = self._loop.create_future()
        if progress is not None:
            self._progress[number] = progress
        if figures is not None:
            self._figures[number] = figures
        try:
            await self._send(packet, fds)
            return await asyncio.wait_for(answer, timeout)
        except TimeoutError:
            raise LinkLostError from None
        finally:
            self._answers.pop(number, None)
            self._progress.pop(number, None)
            self._figures.pop(number, None)

    async def _send(self, packet: bytes, fds: Sequence[int]) -> None:
        deadline = self._loop.time() + ANSWER_S
        while self.open:
            try:
                socket.send_fds(self._stream, [packet], list(fds))
                return
            except BlockingIOError:
                if self._loop.time() > deadline:
                    raise LinkLostError from None
                await asyncio.sleep(0.01)
            except OSError:
                self.close()
        raise LinkLostError

    def _on_ready(self) -> None:
        try:
            packet = self._stream.recv(ANSWER_BYTES)
        except BlockingIOError:
            return
        except OSError:
            packet = b""
        if not packet:
            self.close()
            return
        try:
            message = json.loads(packet)
        except (ValueError, RecursionError):
            self.close()
            return
        if isinstance(message, dict):
            self._dispatch(message)

    def _dispatch(self, message: dict[str, Any]) -> None:
        number = message.get("id")
        if not isinstance(number, int):
            self._told()
        elif "progress" in message:
            self._on_progress(number, message["progress"])
        elif "figures" in message:
            self._on_figures(number, message["figures"])
        else:
            self._on_answer(number, message)

    def _on_progress(self, number: int, said: Any) -> None:
        """The process may be its guest's: what makes no sense is passed over."""
        progress = self._progress.get(number)
        if progress is None or not isinstance(said, list) or len(said) != 2:
            return
        done, total = said
        if type(done) is int and type(total) is int and 0 <= done <= total < 1 << 53:
            progress(done, total)

    def _on_figures(self, number: int, said: Any) -> None:
        """As `_on_progress`."""
        figures = self._figures.get(number)
        if figures is None or not isinstance(said, dict) or len(said) > MOST_FIGURES:
            return
        if all(type(value) in (int, float) and abs(value) < 1 << 53 for value in said.values()):
            figures({clean(name, FIGURE_CHARACTERS): value for name, value in said.items()})

    def _on_answer(self, number: int, message: dict[str, Any]) -> None:
        answer, done = self._answers.get(number), message.get("done")
        if answer is None or answer.done():
            return
        if "error" in message:
            answer.set_exception(ApiError("wrong-state", clean(str(message["error"]))))
        else:
            answer.set_result(done if isinstance(done, dict) else {})

    def close(self) -> None:
        if not self.open:
            return
        self.open = False
        self._loop.remove_reader(self._stream)
        self._stream.close()
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(LinkLostError())
                answer.exception()  # who is still sending learns it from there
        self._lost()
