"""bash completes for real."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.xm.fake_xend import FakeXend, domain, host
from xenion.xm.completion.bash import script
from xenion.xm.main import names

DRIVER = """
source "$1"; shift
complete -p xm >/dev/null || exit 9
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_xm
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def completed(xend: FakeXend, tmp_path: Path) -> "Completed":
    xend.answers["list"] = {"domains": [host(), domain("web"), domain("mail", 2), domain("we$(id)", 3)]}
    return Completed(tmp_path)


class Completed:
    """What bash offers for the last of some words; there are a file and an `xm` where it looks."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "script").write_text(script())
        (folder / "guest one.cfg").touch()
        self.xm = folder / "xm"
        self.xm.write_text(
            f'#!/bin/sh\nexec {sys.executable} -c "from xenion.xm.main import run; run()" "$@"\n'
        )
        self.xm.chmod(0o755)

    def __call__(self, *words: str) -> list[str]:
        done = subprocess.run(
            ["bash", "--norc", "-c", DRIVER, "bash", "script", "xm", *words],
            cwd=self._folder,
            env={**os.environ, "PATH": f"{self._folder}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stderr == ""
        return [line for line in done.stdout.splitlines() if line]


def test_bash_can_read_it() -> None:
    subprocess.run(["bash", "-n"], input=script(), text=True, check=True)


def test_commands(completed: Completed) -> None:
    assert completed("") == names()
    assert completed("dom") == ["domid", "domname", "domstate"]
    assert completed("zz") == []
    assert completed("help", "vc") == ["vcpu-list", "vcpu-pin", "vcpu-set"]


def test_options(completed: Completed) -> None:
    assert completed("shutdown", "--r") == ["--reboot"]
    assert set(completed("list", "-")) == {"-h", "--help", "-l", "--long", "--state", "--json"}


@pytest.mark.parametrize("words", [["--state", "pa"], ["--state", "=", "pa"]])
def test_values_of_an_option(completed: Completed, words: list[str]) -> None:
    assert completed("list", *words) == ["paused"]
    assert len(completed("list", *words[:-1], "" if words[-2] != "=" else "=")) in (4, 9)


def test_domains(completed: Completed) -> None:
    assert completed("destroy", "w") == ["web", "we$(id)"]
    assert completed("destroy", "web", "m") == ["mail"]
    assert completed("trigger", "") == ["nmi", "reset", "init", "s3resume", "web", "mail", "we$(id)"]


def test_files(completed: Completed) -> None:
    assert completed("create", "gu") == ["guest one.cfg"]


def test_no_domains_when_there_is_no_xend(completed: Completed, xend: FakeXend) -> None:
    xend.path.unlink()
    assert completed("destroy", "") == []
