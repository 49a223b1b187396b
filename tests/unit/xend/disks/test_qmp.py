"""QEMU's machine protocol, with a QEMU that may say anything."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from tests.unit.xend.disks.kit import run
from xenion.xend.disks import qmp
from xenion.xend.disks.qmp import Qmp, QmpError

GREETING = b'{"QMP": {"version": {}, "capabilities": []}}\r\n'
OK = b'{"return": {}}\r\n'
Work = Callable[[Qmp], Coroutine[Any, Any, Any]]


async def conversation(at: Path, answers: list[bytes], work: Work) -> list[dict[str, Any]]:
    """What the daemon was asked; its answers come one for each request, the first of all unasked."""
    asked: list[dict[str, Any]] = []
    over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            for answer in answers:
                writer.write(answer)
                if line := await reader.readline():
                    asked.append(json.loads(line))
        except ConnectionError:
            pass  # the client has had enough
        finally:
            writer.close()
            over.set()

    async with await asyncio.start_unix_server(serve, at / "qmp"):
        async with Qmp(at / "qmp") as daemon:
            await work(daemon)
        await over.wait()
    return asked


def test_asked_and_answered(tmp_path: Path) -> None:
    async def work(daemon: Qmp) -> None:
        assert await daemon.do("look", **{"node-name": "disk"}) == [1]

    asked = run(conversation(tmp_path, [GREETING, OK, b'{"return": [1]}\n'], work))
    assert asked == [
        {"execute": "qmp_capabilities", "arguments": {}},
        {"execute": "look", "arguments": {"node-name": "disk"}},
    ]


@pytest.mark.parametrize("early", [True, False])
def test_events_come_when_they_come(tmp_path: Path, early: bool) -> None:
    events = b'{"event": "GONE", "data": {"id": "other"}}\n{"event": "GONE", "data": {"id": "x", "n": 1}}\n'

    async def work(daemon: Qmp) -> None:
        await daemon.do("go")
        await daemon.event("GONE", id="x")

    answer = events + OK if early else OK + events
    run(conversation(tmp_path, [GREETING, OK, answer], work))


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b'{"error": {"class": "GenericError", "desc": "no such node"}}\n', "no such node"),
        (b'{"error": {}}\n', "no reason"),
        (b"nonsense\n", "nonsense"),
        (b"[]\n", "nonsense"),
        (b"", "does not answer"),
        (b"x" * (qmp.LINE_BYTES + 1), "too great a length"),
    ],
)
def test_what_goes_wrong(tmp_path: Path, answer: bytes, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(daemon: Qmp) -> None:
        await daemon.do("go")

    monkeypatch.setattr(qmp, "PATIENCE_S", 0.3)
    with pytest.raises(QmpError, match=says):
        run(conversation(tmp_path, [GREETING, OK, answer], work))


def test_it_has_ended(tmp_path: Path) -> None:
    async def work(daemon: Qmp) -> None:
        with pytest.raises(QmpError, match="it has ended"):
            await daemon.do("go")

    run(conversation(tmp_path, [GREETING, OK], work))
    with pytest.raises(QmpError, match="does not listen"):
        run(_enter(tmp_path / "none"))


async def _enter(path: Path) -> None:
    async with Qmp(path):
        pass
