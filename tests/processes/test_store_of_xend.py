"""A real xenstored: started when it is needed, found again, started again when it has died, ended with the last one."""

import asyncio
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.descriptors import descriptors
from tests.unit.xend.kit import folders, run, within
from xenion.api.errors import ApiError
from xenion.api.folders import Folders
from xenion.dom0.xenstore import control
from xenion.dom0.xenstore.control import StoreControl, StoreControlError
from xenion.dom0.xenstore.folder import CONTROL, LOCK
from xenion.xend import xenstored
from xenion.xend.process import Process
from xenion.xend.storage import private_folder
from xenion.xend.xenstored import Xenstored

UUID = "00000000-0000-4000-8000-00000000000{}"


@pytest.fixture
def where(tmp_path: Path) -> Iterator[Folders]:
    where = folders(tmp_path)
    for folder in (where.run, where.state):
        private_folder(folder)
    yield where
    if (left := process_of(where)) is not None and left.kill():
        pytest.fail("a store is left")


def process_of(where: Folders) -> Process | None:
    path = where.xenstored / LOCK
    found = Process.of(int(path.read_text())) if path.exists() else None
    return found if found is not None and found.alive else None


def pid_of(where: Folders) -> int:
    found = process_of(where)
    assert found is not None
    return found.pid


def with_store(where: Folders, work: Callable[[Xenstored], Awaitable[None]]) -> None:
    async def inside() -> None:
        store = Xenstored(where)
        try:
            await within(work(store))
        finally:
            await within(store.stop())

    run(inside)


def hangs_up(connection: socket.socket) -> bool:
    connection.settimeout(20)
    return connection.recv(1) == b""


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


def test_started_when_it_is_needed(where: Folders) -> None:
    async def work(store: Xenstored) -> None:
        assert not store.runs
        await store.release(5)
        assert store.runs
        assert (where.state / "xenstored.log").stat().st_mode & 0o777 == 0o600
        assert where.xenstore_socket.exists()

    with_store(where, work)
    assert process_of(where) is None


def test_introduced_connected_released(where: Folders) -> None:
    async def work(store: Xenstored) -> None:
        await store.release(1)
        before = len(descriptors())
        guest, back_ends = await store.introduce(5, UUID.format(5))
        with guest, back_ends:
            assert await store.introduced() == {5: UUID.format(5)}
            assert await store.connected() == {5}
        assert len(descriptors()) == before
        while await store.connected():
            pass
        assert await store.introduced() == {5: UUID.format(5)}
        again, _ = connections = await store.introduce(5, UUID.format(5))
        assert await store.connected() == {5}
        await store.release(5)
        assert hangs_up(again)
        for connection in connections:
            connection.close()
        assert await store.introduced() == {}
        assert len(descriptors()) == before

    with_store(where, work)


def test_found_again_by_the_next_xend(where: Folders) -> None:
    async def first() -> None:
        store = Xenstored(where)
        for connection in await store.introduce(5, UUID.format(5)):
            connection.close()
        store.close()
        assert store._child is not None
        store._child.returncode = 0  # its parent has ended, as far as this object knows

    run(first)
    pid = pid_of(where)

    async def second(store: Xenstored) -> None:
        assert store.runs
        assert pid_of(where) == pid
        assert await store.introduced() == {5: UUID.format(5)}
        assert pid_of(where) == pid
        restarted = []
        store.on_restart = lambda: restarted.append(1)
        await store.release(5)
        assert restarted == []

    with_store(where, second)
    os.waitpid(pid, 0)


def test_killed_and_nobody_asks(where: Folders) -> None:
    async def work(store: Xenstored) -> None:
        restarted = asyncio.Event()
        store.on_restart = restarted.set
        connections = await store.introduce(5, UUID.format(5))
        for _ in range(2):
            pid = pid_of(where)
            os.kill(pid, signal.SIGKILL)
            await restarted.wait()
            restarted.clear()
            assert pid_of(where) != pid
            assert await store.introduced() == {5: UUID.format(5)}
            assert await store.connected() == set()
        assert all(map(hangs_up, connections))
        for connection in connections:
            connection.close()

    with_store(where, work)


def test_killed_and_asked_at_once(where: Folders) -> None:
    """Whoever finds out first, everybody is told once."""

    async def work(store: Xenstored) -> None:
        restarted: list[int] = []
        store.on_restart = lambda: restarted.append(pid_of(where))
        await store.release(1)
        pid = pid_of(where)
        os.kill(pid, signal.SIGKILL)
        for connection in await store.introduce(5, UUID.format(5)):
            connection.close()
        await until(lambda: bool(restarted))
        await store.release(5)
        assert restarted == [pid_of(where)]
        assert restarted != [pid]

    with_store(where, work)


def test_one_that_cannot_be_started_is_tried_again(where: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xenstored, "AGAIN_S", 0.01)
    monkeypatch.setattr(xenstored, "PAUSE_S", 0.001)
    really = control.start
    attempts: list[int] = []
    space: list[int] = []

    def start(*given: Any, **more: Any) -> object:
        attempts.append(1)
        if not space:
            raise StoreControlError("no space")
        return really(*given, **more)

    async def work(store: Xenstored) -> None:
        restarted = asyncio.Event()
        store.on_restart = restarted.set
        await store.release(1)
        monkeypatch.setattr(control, "start", start)
        os.kill(pid_of(where), signal.SIGKILL)
        await until(lambda: len(attempts) > 2)
        with pytest.raises(ApiError, match="no space") as caught:
            await store.introduced()
        assert caught.value.code == "failed"
        space.append(1)
        await restarted.wait()
        assert await store.introduced() == {}

    with_store(where, work)


def test_one_at_a_time(where: Folders) -> None:
    async def work(store: Xenstored) -> None:
        made = await asyncio.gather(*(store.introduce(n, UUID.format(n)) for n in range(1, 9)))
        assert set(await store.connected()) == set(range(1, 9))
        for connection in (one for connections in made for one in connections):
            connection.close()

    with_store(where, work)


def test_who_is_cancelled_mixes_nothing_up(where: Folders) -> None:
    """The answer that he does not wait for is no other's, and the connections in it are closed."""

    async def work(store: Xenstored) -> None:
        await store.release(1)
        before = len(descriptors())
        for _ in range(20):
            asking = asyncio.ensure_future(store.introduce(5, UUID.format(5)))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            assert await store.introduced() in ({5: UUID.format(5)}, {})
            await store.release(5)
            assert await store.introduced() == {}
        assert len(descriptors()) == before

    with_store(where, work)


def test_two_xends_stop_one(where: Folders) -> None:
    async def work(store: Xenstored) -> None:
        await store.release(1)
        pid = pid_of(where)
        other = Xenstored(where)
        await other.stop()
        assert process_of(where) is None
        assert pid not in (0, None)

    with_store(where, work)


def test_nothing_is_started_after_the_end(where: Folders) -> None:
    async def work() -> None:
        store = Xenstored(where)
        await store.stop()
        with pytest.raises(ApiError, match="xend is about to end"):
            await store.introduce(1, UUID.format(1))
        await store.stop()
        store.close()

    run(work)
    assert not where.xenstored.exists()


def test_a_store_that_hangs(where: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xenstored, "ANSWER_S", 0.05)

    async def work(store: Xenstored) -> None:
        await store.release(1)
        pid = pid_of(where)
        os.kill(pid, signal.SIGSTOP)
        try:
            with pytest.raises(ApiError, match="does not answer"):
                await store.introduced()
        finally:
            os.kill(pid, signal.SIGCONT)
        while True:
            try:
                assert await store.introduced() == {}
            except ApiError:
                continue
            break
        assert pid_of(where) == pid
        monkeypatch.setattr(xenstored, "ANSWER_S", 10.0)

    with_store(where, work)


def test_told_by_another_client(where: Folders) -> None:
    """What it is told is on the daemon's side, not here."""

    async def work(store: Xenstored) -> None:
        for connection in await store.introduce(5, UUID.format(5)):
            connection.close()
        with closing(StoreControl.connect(where.xenstored / CONTROL)) as other:
            other.release(5)
        assert await store.introduced() == {}

    with_store(where, work)
