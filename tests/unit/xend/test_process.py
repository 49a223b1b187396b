"""A domain's process is known by its command, and by nothing that could be another one's."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from xenion.xend import process
from xenion.xend.process import Process

UUID = "00000000-0000-4000-8000-00000000f00d"


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch) -> Iterator["subprocess.Popen[bytes]"]:
    """Something with a domain process's command line, that has started and waits."""
    code = "import signal; print('x', flush=True); signal.pause()"
    monkeypatch.setattr(process, "PROGRAM", (sys.executable, "-ISc", code))
    with subprocess.Popen(process.command(3, UUID), stdout=subprocess.PIPE) as made:
        assert made.stdout is not None
        assert made.stdout.read(1) == b"x"
        yield made
        made.kill()


def test_found_and_killed(child: "subprocess.Popen[bytes]") -> None:
    known = process.find(UUID)
    assert known == Process.of(child.pid)
    assert known is not None
    assert process.find(UUID.replace("f", "e")) is None
    assert known.alive
    another = Process(child.pid, known.began + 1)
    assert not another.alive
    assert not another.kill()
    assert child.poll() is None
    assert known.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not known.alive, "a zombie is over"
    assert child.wait() == -signal.SIGKILL
    assert not known.kill()
    assert Process.of(child.pid) is None


def test_what_it_says_of_itself_does_not_count_once_it_is_known(child: "subprocess.Popen[bytes]") -> None:
    """A process that its guest has taken over can write over its command line."""
    known = Process.of(child.pid)
    assert known is not None
    with pytest.MonkeyPatch.context() as forged:
        forged.setattr(process, "PROGRAM", ("another", "program"))
        assert process.find(UUID) is None
        assert known.kill()
    assert child.wait() == -signal.SIGKILL


def test_waited_for(child: "subprocess.Popen[bytes]") -> None:
    async def work() -> None:
        loop = asyncio.get_running_loop()
        known = Process.of(child.pid)
        assert known is not None
        await known.wait(0.01)
        waiting = loop.create_task(known.wait(20))
        await asyncio.sleep(0)
        assert not waiting.done()
        child.kill()
        await asyncio.wait_for(waiting, 10)
        child.wait()
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0)

        ticking = loop.create_task(tick())
        await known.wait(20)  # which is no more
        await process.moment(20)
        assert ticks > 2, "others run meanwhile"
        ticking.cancel()

    asyncio.run(work())


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (0, ""),
        (1, ""),
        (2, ""),
        (3, "exit status 3"),
        (-9, "SIGKILL"),
        (-31, "it made a system call"),
        (-60, "signal 60"),
    ],
)
def test_ends_in_words(status: int, text: str) -> None:
    assert process.status_text(status).startswith(text)
    assert bool(process.status_text(status)) == bool(text)
