"""Programs that work for domains: started, known again, ended, by whichever xend."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.descriptors import descriptors
from xenion.api.errors import ApiError
from xenion.xend import helpers
from xenion.xend.helpers import Helper

WAITS = "import os, signal, sys; os.write({fd}, b'x'); signal.pause()"
STUBBORN = (
    "import os, signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); os.write({fd}, b'x'); signal.pause()"
)


@pytest.fixture
def said(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)
    yield fd
    os.close(fd)


def started(at: Path, said: int, code: str = WAITS) -> Helper:
    """It has got as far as its own code."""
    read, write = os.pipe()
    words = [sys.executable, "-ISc", code.format(fd=write)]
    made = helpers.start("a test", words, works_for=at, said=said, pass_fds=(write,))
    os.close(write)
    assert os.read(read, 1) == b"x"
    os.close(read)
    return made


def test_a_life(tmp_path: Path, said: int) -> None:
    made = started(tmp_path, said)
    assert made.alive
    assert os.getsid(made.pid) == made.pid
    opened = Path(f"/proc/{made.pid}/fd")
    assert {path.name for path in opened.iterdir()} - {"0", "1", "2"} != set()
    assert len(list(opened.iterdir())) == 4, "what it was given, and nothing else"
    assert (opened / "2").readlink() == tmp_path / "log"
    later = Helper.from_mapping(json.loads(json.dumps(made.to_mapping())))
    assert later == made
    asyncio.run(later.end())
    assert not made.alive
    assert not Path(f"/proc/{made.pid}").exists(), "no zombie is left"
    asyncio.run(made.end())


def test_another_process_of_the_number_is_left_alone(tmp_path: Path, said: int) -> None:
    made = started(tmp_path, said)
    asyncio.run(Helper(made.what, made.pid, made.began + 1).end())
    assert made.alive
    asyncio.run(made.end())


def test_one_that_does_not_listen(tmp_path: Path, said: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(helpers, "GRACE_S", 0.05)
    made = started(tmp_path, said, STUBBORN)

    async def work() -> None:
        waiting = asyncio.ensure_future(made.ended())
        await asyncio.sleep(0)
        assert not waiting.done()
        await made.end()
        await waiting

    asyncio.run(work())
    assert not made.alive


def test_no_secret_is_passed_on(tmp_path: Path, said: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "XEND_TOKEN",
        "HOMEBREW_TOKEN",
        "PATHFINDER_KEY",
        "PYTHON_INDEX_TOKEN",
        "TZ_SECRET",
        "XENION_KEY",
    ):
        monkeypatch.setenv(name, "kingfisher")
    monkeypatch.setenv("LC_ALL", "C")
    made = started(tmp_path, said)
    words = Path(f"/proc/{made.pid}/environ").read_bytes().split(b"\0")
    assert b"LC_ALL=C" in words
    assert f"{helpers.MARK}={tmp_path}".encode() in words
    assert not any(b"kingfisher" in word for word in words)
    asyncio.run(made.end())


def test_signals_are_as_usual(tmp_path: Path, said: int) -> None:
    """Python ignores SIGPIPE, and what it ignores its children would ignore too."""
    made = helpers.start("a test", ["/bin/sleep", "600"], works_for=tmp_path, said=said)
    status = Path(f"/proc/{made.pid}/status").read_text().splitlines()
    masks = {
        line.split(":")[0]: int(line.split()[1], 16)
        for line in status
        if line.startswith("Sig") and "Q" not in line
    }
    assert masks["SigBlk"] == 0
    assert not masks["SigIgn"] & 1 << signal.SIGPIPE - 1
    asyncio.run(made.end())


def test_what_cannot_be_started(tmp_path: Path, said: int, monkeypatch: pytest.MonkeyPatch) -> None:
    before = descriptors()
    with pytest.raises(ApiError, match="a test cannot be started: /none: No such file") as caught:
        helpers.start("a test", ["/none"], works_for=tmp_path, said=said)
    assert caught.value.code == "failed"
    assert descriptors() == before
    monkeypatch.setenv("PATH", "/none")
    monkeypatch.setattr(helpers, "_FOLDERS", "/none")
    assert not helpers.installed("passt")
    with pytest.raises(ApiError, match="passt is not installed: apt-get install passt"):
        helpers.find("passt")


@pytest.mark.parametrize(
    "values", [{}, {"what": "x", "pid": 1, "began": 2}, {"what": "x", "pid": "7", "began": 2}]
)
def test_records_that_make_no_sense(values: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="a helper in a record"):
        Helper.from_mapping(values)


def test_strays(tmp_path: Path, said: int) -> None:
    here, there = (started(tmp_path / name, said) for name in ("one", "two"))
    assert helpers.strays(tmp_path, (here,))[0].pid == there.pid
    assert {helper.pid for helper in helpers.strays(tmp_path, ())} == {here.pid, there.pid}
    assert helpers.strays(tmp_path / "one", ()) == [Helper("a helper of one", here.pid, here.began)]
    assert helpers.strays(tmp_path / "on", ()) == []
    for made in (here, there):
        asyncio.run(made.end())
    assert helpers.strays(tmp_path, ()) == []


def daemon(at: Path, words: list[str]) -> Helper | str:
    file = at / "pid"
    return asyncio.run(helpers.start_daemon("a test", words, pid_file=file, works_for=at))


def test_one_that_goes_into_the_background(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    code = (
        "import os, signal\n"
        "read, write = os.pipe()\n"
        "if os.fork(): os.read(read, 1); os._exit(0)\n"
        "os.setsid()\n"
        f"open({str(file)!r}, 'w').write(str(os.getpid()))\n"
        "os.write(write, b'x')\n"
        "signal.pause()\n"
    )
    made = daemon(tmp_path, [sys.executable, "-ISc", code])
    assert isinstance(made, Helper)
    assert made.pid == int(file.read_text())
    assert made.alive
    asyncio.run(made.end())


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("echo no port >&2; exit 1", "no port"),
        ("exit 1", "it ended without a word"),
        ("exit 0", "it ended without a word"),
        ("echo too late >&2; echo $$ >{file}; exit 5", "too late"),
    ],
)
def test_one_that_refuses(tmp_path: Path, script: str, says: str) -> None:
    (tmp_path / "pid").write_text(str(os.getpid()))  # of an earlier one
    assert daemon(tmp_path, ["/bin/sh", "-c", script.format(file=tmp_path / "pid")]) == says


def test_one_that_stays_in_the_foreground(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(helpers, "READY_S", 0.05)
    assert daemon(tmp_path, ["/bin/sleep", "600"]) == "it does not get ready"
    assert helpers.strays(tmp_path, ()) == []


@pytest.mark.parametrize(("answer", "ready"), [(b"ready\n", True), (b"", False), (None, False)])
def test_told(answer: bytes | None, ready: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(helpers, "READY_S", 0.05)
    read, write = os.pipe()
    if answer is not None:
        os.write(write, answer)
        os.close(write)
    assert asyncio.run(helpers.told(read)) == ready
    os.close(read)
    if answer is None:
        os.close(write)
