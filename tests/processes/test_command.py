"""The command xend: start, stop, restart, status."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.xend.running import Xend, wait_for_end
from xenion.xend.command import main, pid_of


@pytest.fixture(autouse=True)
def _environment(xend: Xend, monkeypatch: pytest.MonkeyPatch) -> None:
    xend.environ(monkeypatch)


def test_started_and_stopped(xend: Xend, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status"]) == 3
    assert main(["status", "--json"]) == 3
    assert main(["stop"]) == 0
    assert main(["start"]) == 0
    first = xend.pid
    assert first is not None
    assert main(["start"]) == main(["status", "--json"]) == main(["status"]) == 0
    assert main(["restart"]) == 0
    second = xend.pid
    assert second not in (None, first)
    assert main(["stop"]) == 0
    assert pid_of(xend.where) is None
    wait_for_end(second or 0)
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "xend does not run"
    assert json.loads(said[1]) == {"running": False, "pid": None, "socket": str(xend.where.socket)}
    assert json.loads(said[2]) == {"running": True, "pid": first, "socket": str(xend.where.socket)}
    assert said[3] == f"xend runs (process {first}), at {xend.where.socket}"


def test_a_start_that_fails(xend: Xend, capsys: pytest.CaptureFixture[str]) -> None:
    xend.toml.write_text("[http]\n")
    assert main(["start"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("xend: ")
    assert len(said.splitlines()) == 1
    assert "http is not known" in said


@pytest.mark.parametrize(
    ("words", "hint"),
    [([], "xend -h"), (["fly"], "xend -h"), (["run", "--idle-exit", "x"], "xend run -h")],
)
def test_words_that_are_none(words: list[str], hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("xend: ")
    assert said.endswith(f'; see "{hint}"')


def test_a_second_one(xend: Xend) -> None:
    """It is as good for who waits until clients can connect, and not for who looks on."""
    xend.start()
    assert xend.start().process.wait(30) == 0
    done = subprocess.run(
        [sys.executable, "-m", "xenion.xend", "run"], env=xend.environment, capture_output=True, text=True
    )
    said = f"xend: another xend runs already (process {xend.pid}): `xend stop` ends it\n"
    assert (done.returncode, done.stderr) == (1, said)


def test_nobodys_home(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def unknown() -> Path:
        raise RuntimeError

    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setattr("os.geteuid", lambda: 54321)
    monkeypatch.setattr(Path, "home", unknown)
    assert main(["status"]) == 1
    assert capsys.readouterr().err == "xend: your home directory is not known: set HOME or XDG_STATE_HOME\n"


@pytest.mark.parametrize("text", ["", "x"])
def test_a_lock_without_a_process(xend: Xend, text: str) -> None:
    assert pid_of(xend.where) is None
    xend.where.run.mkdir(parents=True)
    xend.where.lock.write_text(text)
    assert pid_of(xend.where) is None
