"""What is saved comes out of the pipe's other end, as fast as that is read; who does not read it holds nobody."""

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.descriptors import descriptors
from xenion.api.errors import ApiError
from xenion.domain.saved.format import HOST, Reader, SaveError
from xenion.domain.saved.state import HostDisk, HostState, decode
from xenion.xend import piped
from xenion.xend.piped import CHUNK_BYTES, ROOM_BYTES, Piped, is_pipe

HOST_STATE = HostState(lasting=True, disks=[HostDisk("xvda", 1, 2)])
LARGE = os.urandom(3 * ROOM_BYTES + 5)


class Pipe:
    """`end` is where it is read."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self.end = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        os.set_blocking(self.end, True)

    def read(self, size: int) -> bytes:
        found = b""
        while len(found) < size and (data := os.read(self.end, size - len(found))):
            found += data
        return found

    def hang_up(self) -> None:
        if self.end >= 0:
            os.close(self.end)
        self.end = -1


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[Pipe]:
    before = descriptors()
    made = Pipe(tmp_path / "pipe")
    yield made
    made.hang_up()
    assert set(descriptors()) <= set(before), "a descriptor was left open"


def run(work: Callable[[Piped], Coroutine[Any, Any, None]], pipe: Pipe) -> None:
    async def whole() -> None:
        sink = Piped(pipe.path)
        try:
            await asyncio.wait_for(work(sink), 30)
        finally:
            sink.close()

    asyncio.run(whole())


def written(fd: int, data: bytes) -> "asyncio.Future[str]":
    """A process with a descriptor of its own; what became of it."""
    own = os.dup(fd)

    def process() -> str:
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(own, rest) :]
        except OSError as error:
            return str(error.strerror)
        finally:
            os.close(own)
        return "written"

    return asyncio.ensure_future(asyncio.to_thread(process))


def test_which_paths_are_pipes(pipe: Pipe, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "link").symlink_to(pipe.path)
    found = [name for name in ("pipe", "link", "file", "missing", ".") if is_pipe(tmp_path / name)]
    assert found == ["pipe", "link"]


def test_all_of_it_comes_out(pipe: Pipe) -> None:
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read(1 << 30)))

    async def work(sink: Piped) -> None:
        reader.start()
        async with sink.from_process() as fd:
            process = written(fd, LARGE)
            assert await process == "written"
        await sink.settle(HOST_STATE)
        await sink.finish(HOST_STATE)
        await sink.append(HOST_STATE)
        read.append(sink.size.to_bytes(8))

    run(work, pipe)
    reader.join()
    size, data = read
    assert int.from_bytes(size) == len(data)
    assert data[: len(LARGE)] == LARGE
    rest = pipe.path.with_name("rest")
    rest.write_bytes(data[len(LARGE) :])
    with rest.open("rb") as file:
        reads = Reader(file.fileno())
        assert [decode(reads.section(HOST), HostState) for _ in range(2)] == [HOST_STATE] * 2
        assert file.read() == b""


def test_a_slow_reader_is_waited_for(pipe: Pipe) -> None:
    """It is finished when all has been read, not before."""

    async def work(sink: Piped) -> None:
        async with sink.from_process() as fd:
            await written(fd, b"x" * CHUNK_BYTES)
        finished = asyncio.ensure_future(sink.settle(HOST_STATE))
        assert pipe.read(CHUNK_BYTES - 1) == b"x" * (CHUNK_BYTES - 1)
        assert not (await asyncio.wait([finished], timeout=0.1))[0]
        assert pipe.read(1) == b"x"
        await finished

    run(work, pipe)


@pytest.mark.parametrize("refuses", [True, False])
def test_a_reader_that_goes_away(pipe: Pipe, refuses: bool) -> None:
    """The process cannot write any more, and why is told, whatever it says itself."""

    async def save(sink: Piped) -> None:
        async with sink.from_process() as fd:
            process = written(fd, LARGE)
            assert await asyncio.to_thread(pipe.read, 10) == LARGE[:10]
            pipe.hang_up()
            assert await process == "Broken pipe"
            if refuses:
                raise ApiError("failed", "it cannot be written")

    async def work(sink: Piped) -> None:
        with pytest.raises(SaveError, match="nobody reads the pipe any more"):
            await save(sink)

    run(work, pipe)


def test_a_process_that_fails(pipe: Pipe) -> None:
    async def save(sink: Piped) -> None:
        async with sink.from_process() as fd:
            await written(fd, b"x")
            raise ApiError("failed", "it is too tired")

    async def work(sink: Piped) -> None:
        with pytest.raises(ApiError, match="it is too tired"):
            await save(sink)

    run(work, pipe)


def test_a_reader_that_has_gone_when_all_was_written(pipe: Pipe) -> None:
    """It may have read all or nothing."""

    async def work(sink: Piped) -> None:
        async with sink.from_process() as fd:
            await written(fd, b"x")
            assert pipe.read(1) == b"x"
        pipe.hang_up()
        with pytest.raises(SaveError, match="nobody reads the pipe any more"):
            await sink.settle(HOST_STATE)

    run(work, pipe)


@pytest.mark.parametrize("size", [10, len(LARGE)])
def test_a_reader_that_stops(pipe: Pipe, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With much left to be written, or only to be read."""
    monkeypatch.setattr(piped, "PATIENCE_S", 0.05)

    said = []

    async def save(sink: Piped) -> None:
        async with sink.from_process() as fd:
            said.append(await written(fd, LARGE[:size]))
        await sink.settle(HOST_STATE)

    async def work(sink: Piped) -> None:
        with pytest.raises(SaveError, match="nobody has read the pipe for 30 seconds"):
            await save(sink)

    run(work, pipe)
    assert said == ["written" if size == 10 else "Broken pipe"]


def test_a_task_that_is_cancelled(pipe: Pipe) -> None:
    """The process is not left behind in the middle of a write."""

    async def work(sink: Piped) -> None:
        processes = []

        async def save() -> None:
            async with sink.from_process() as fd:
                processes.append(written(fd, LARGE))
                await asyncio.shield(processes[0])

        saving = asyncio.ensure_future(save())
        while not processes:
            await asyncio.sleep(0)
        saving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await saving
        assert await processes[0] == "Broken pipe"

    run(work, pipe)


def test_a_pipe_that_nobody_reads(pipe: Pipe) -> None:
    pipe.hang_up()
    with pytest.raises(ApiError, match="pipe: nobody reads it") as caught:
        Piped(pipe.path)
    assert caught.value.code == "refused"


def test_a_pipe_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(ApiError, match="No such file"):
        Piped(tmp_path / "pipe")
