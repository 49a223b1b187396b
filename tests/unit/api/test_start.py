"""xend is started by whoever needs it, and outlives them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.descriptors import descriptors
from tests.unit.xend.kit import open_files
from tests.unit.xend.running import Xend, wait_for_end
from xenion.api import start
from xenion.api.errors import UnreachableError
from xenion.api.start import start_xend


def test_started_once_and_nobodys_child(xend: Xend) -> None:
    start_xend(xend.where)
    pid = xend.pid
    assert pid is not None
    start_xend(xend.where)
    assert xend.pid == pid
    assert os.getsid(pid) != os.getsid(0)
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    assert Path(f"/proc/{pid}/cwd").readlink() == Path("/")
    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    assert b"--on-demand" in words
    log = (xend.where.state / "xend.log").stat()
    assert log.st_mode & 0o777 == 0o600
    assert Path(f"/proc/{pid}/fd/2").stat().st_ino == log.st_ino


def test_one_that_stays(xend: Xend) -> None:
    start_xend(xend.where, stays=True)
    assert b"--on-demand" not in Path(f"/proc/{xend.pid}/cmdline").read_bytes().split(b"\0")


def test_nothing_of_the_starter_is_kept_open(xend: Xend) -> None:
    before = descriptors()
    with (xend.at / "mine").open("w") as mine:
        os.set_inheritable(mine.fileno(), True)
        start_xend(xend.where)
        assert xend.pid is not None
        held = open_files(xend.pid)
    assert str(xend.at / "mine") not in held
    assert descriptors() == before


def test_a_large_log_is_set_aside(xend: Xend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "LOG_BYTES", 10)
    xend.where.state.mkdir(parents=True)
    for text in ("first long log", "short", "second long log"):
        (xend.where.state / "xend.log").write_text(text)
        os.close(start._open_log(xend.where.state / "xend.log"))
    assert (xend.where.state / "xend.log.1").read_text() == "second long log"
    assert (xend.where.state / "xend.log").read_text() == ""


def test_what_keeps_it_from_starting(xend: Xend, monkeypatch: pytest.MonkeyPatch) -> None:
    xend.toml.write_text("[http]\n")
    before = descriptors()
    with pytest.raises(UnreachableError, match="http is not known"):
        start_xend(xend.where)
    monkeypatch.setattr(sys, "executable", "/missing/python")
    with pytest.raises(UnreachableError, match="xend cannot be started: No such file"):
        start_xend(xend.where)
    monkeypatch.setattr(sys, "executable", "/bin/true")
    with pytest.raises(UnreachableError, match=r"ended while it was starting; see .*xend\.log"):
        start_xend(xend.where)
    assert descriptors() == before
    (xend.at / "state").rename(xend.at / "elsewhere")
    (xend.at / "state").touch()
    with pytest.raises(UnreachableError, match="Not a directory"):
        start_xend(xend.where)


def test_it_outlives_who_started_it(xend: Xend) -> None:
    code = "from xenion.api.start import start_xend; from xenion.api.folders import folders; start_xend(folders())"
    subprocess.run([sys.executable, "-c", code], env=xend.environment, check=True)
    pid = xend.pid
    assert pid is not None
    client = xend.client()
    assert client.call("info")["xend_pid"] == pid
    client.close()
    os.kill(pid, 15)
    wait_for_end(pid)
