"""The link to a domain process, which may be anybody's by now."""

import asyncio
import json
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from xenion.api.addresses import bind
from xenion.api.errors import ApiError
from xenion.xend import link as link_module
from xenion.xend.link import Link, LinkLostError


class Far:
    """The process's end, answering as the test says."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "control.sock"
        self.listener = bind(self.path, socket.SOCK_SEQPACKET)
        self.listener.listen(1)
        self.events: list[str] = []

    async def __aenter__(self) -> "Far":
        self.link = Link.connect(
            self.path, lambda: self.events.append("told"), lambda: self.events.append("lost")
        )
        self.stream, _ = self.listener.accept()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.link.close()
        self.stream.close()
        self.listener.close()

    def say(self, message: Any) -> None:
        self.stream.send(message if isinstance(message, bytes) else json.dumps(message).encode())

    async def answered(self, ask: Awaitable[Any], *messages: Any) -> Any:
        job = asyncio.ensure_future(ask)
        await asyncio.sleep(0)
        for message in messages:
            self.say(message)
        return await asyncio.wait_for(job, 10)


def with_far(tmp_path: Path, work: Callable[[Far], Awaitable[None]]) -> Far:
    async def main() -> Far:
        async with Far(tmp_path) as far:
            await work(far)
        return far

    return asyncio.run(main())


def test_asked_and_answered(tmp_path: Path) -> None:
    async def work(far: Far) -> None:
        seen: list[tuple[int, int]] = []
        ask = far.link.ask("dump", progress=lambda done, total: seen.append((done, total)), live=True)
        nonsense = ([2, 1], [-1, 5], ["a", 1], [1], 7, [1, True], [1, 1 << 60])
        progress = [{"id": 1, "progress": said} for said in ([1, 2], *nonsense, [2, 2])]
        answer = await far.answered(
            ask, {"journal": 3}, *progress, {"id": 9, "done": {}}, {"id": 1, "done": {"a": 1}}
        )
        assert answer == {"a": 1}
        assert seen == [(1, 2), (2, 2)]
        assert json.loads(far.stream.recv(9999)) == {"id": 1, "do": "dump", "live": True}
        assert await far.answered(far.link.ask("x"), {"id": 2, "done": ["no mapping"]}) == {}
        with pytest.raises(ApiError, match="not now") as caught:
            await far.answered(far.link.ask("x"), {"id": 3, "error": "not now"})
        assert caught.value.code == "wrong-state"

    assert with_far(tmp_path, work).events == ["told", "lost"]


def test_figures(tmp_path: Path) -> None:
    """Of a process that may be its guest's: what makes no sense is passed over, all of it."""

    async def work(far: Far) -> None:
        seen: list[dict[str, float]] = []
        ask = far.link.ask("migrate", figures=seen.append)
        nonsense: tuple[Any, ...] = (
            7, [], None, "x", {"a": "1"}, {"a": None}, {"a": True}, {"a": [1]}, {"a": 1, "b": {}}, {"a": 1 << 53},
            {"a": -(10**400)}, {"a": 1e300}, {str(number): 1 for number in range(33)},
        )  # fmt: skip
        packets: list[Any] = [{"id": 1, "figures": said} for said in ({"round": 1, "s": 0.5}, *nonsense)]
        packets += [
            b'{"id": 1, "figures": {"a": %s}}' % said
            for said in (b"NaN", b"Infinity", b"-Infinity", b"1e400")
        ]
        last = {"id": 1, "figures": {"x" * 40: -2, "\ud800": 1, **{str(number): 1 for number in range(30)}}}
        await far.answered(ask, *packets, last, {"id": 1, "done": {}})
        assert seen[0] == {"round": 1, "s": 0.5}
        assert len(seen) == 2
        assert list(seen[1])[:2] == ["x" * 29 + "...", "?"]
        assert len(seen[1]) == 32
        assert far.link.open

    with_far(tmp_path, work)


def test_figures_that_nobody_waits_for(tmp_path: Path) -> None:
    async def work(far: Far) -> None:
        figures = {"id": 1, "figures": {"a": 1}}
        await far.answered(far.link.ask("x"), figures, {**figures, "id": 9}, {"id": 1, "done": {}})
        far.say(figures)
        assert await far.answered(far.link.ask("y"), {"id": 2, "done": {"a": 2}}) == {"a": 2}
        assert not far.link._figures

    with_far(tmp_path, work)


def test_descriptors_go_along(tmp_path: Path) -> None:
    async def work(far: Far) -> None:
        fd = os.open(tmp_path, os.O_PATH)
        await far.answered(far.link.ask("log", fds=[fd]), {"id": 1, "done": {}})
        os.close(fd)
        _, fds, _, _ = socket.recv_fds(far.stream, 9999, 4)
        assert Path(f"/proc/self/fd/{fds[0]}").readlink() == tmp_path
        os.close(fds[0])

    with_far(tmp_path, work)


@pytest.mark.parametrize("packet", [b"x", b"[" * 60000, b"\xff"])
def test_a_packet_that_is_no_message_ends_it(tmp_path: Path, packet: bytes) -> None:
    async def work(far: Far) -> None:
        with pytest.raises(LinkLostError):
            await far.answered(far.link.ask("x"), b"3", packet)
        assert not far.link.open
        with pytest.raises(LinkLostError):
            await far.link.ask("y")

    assert with_far(tmp_path, work).events == ["lost"]


def test_lost_while_somebody_waits(tmp_path: Path) -> None:
    async def work(far: Far) -> None:
        ask = asyncio.ensure_future(far.link.ask("x", timeout=None))
        await asyncio.sleep(0)
        far.stream.close()
        with pytest.raises(LinkLostError):
            await asyncio.wait_for(ask, 10)

    with_far(tmp_path, work)


def test_no_answer_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(far: Far) -> None:
        with pytest.raises(LinkLostError):
            await far.link.ask("x", timeout=0.01)
        assert far.link.open
        far.say({"id": 1, "done": {}})  # too late, and no harm
        assert await far.answered(far.link.ask("y"), {"id": 2, "done": {"in": "time"}}) == {"in": "time"}
        monkeypatch.setattr(link_module, "ANSWER_S", 0.01)
        with pytest.raises(LinkLostError):  # nobody takes what is sent
            await asyncio.gather(*(far.link.ask("z", filler="x" * 60000, timeout=10) for _ in range(50)))

    with_far(tmp_path, work)


def test_too_much_at_once_is_refused(tmp_path: Path) -> None:
    async def work(far: Far) -> None:
        with pytest.raises(ApiError) as caught:
            await far.link.ask("configure", notes="x" * 70000)
        assert caught.value.code == "too-large"
        assert far.link.open

    with_far(tmp_path, work)


def test_nobody_is_waited_for_to_connect(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"

    async def connect() -> None:
        made: list[Link] = []

        def another() -> None:
            made.append(Link.connect(path, lambda: None, lambda: None))

        with pytest.raises(BlockingIOError):
            _forever(another)
        for link in made:
            link.close()

    async def refused() -> None:
        with pytest.raises(ConnectionRefusedError):
            Link.connect(path, lambda: None, lambda: None)

    with bind(path, socket.SOCK_SEQPACKET) as listener:
        asyncio.run(refused())
        listener.listen(1)
        asyncio.run(connect())


def _forever(act: Callable[[], None]) -> None:
    while True:
        act()
