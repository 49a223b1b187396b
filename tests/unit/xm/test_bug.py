"""A bug is told in a sentence, and its traceback is kept."""

import os
import subprocess
import sys
from pathlib import Path

STUMBLE = """
import sys
from xenion.xm import main
main.load = lambda name: 1 // 0
sys.argv = ["xm", "list"]
main.run()
"""


def stumble(state: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", STUMBLE],
        env={**os.environ, "XDG_STATE_HOME": str(state)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_told_and_kept(tmp_path: Path) -> None:
    log = tmp_path / "xenion" / "xm-bugs.log"
    for times in (1, 2):
        done = stumble(tmp_path)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == (
            "xm: a bug of xm's, or what answered is no xend (ZeroDivisionError: integer division or modulo by zero): "
            f"{log} tells where; please report it\n"
        )
        assert log.read_text().count("Traceback") == times
        assert log.read_text().count(" xm list\n") == times


def test_kept_nowhere(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = stumble(tmp_path / "file")
    assert done.returncode == 1
    assert "where cannot be written down" in done.stderr
    assert "Traceback" not in done.stderr
