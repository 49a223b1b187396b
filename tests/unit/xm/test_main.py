"""Commands are found by name or beginning, and every way to fail has its status."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.xm.process import Process
from xenion.api.errors import ApiError, UnreachableError
from xenion.xm import main
from xenion.xm.errors import UsageError, XmError


def test_the_commands_are_the_files() -> None:
    assert {"create", "help", "vcpu-list", "version"} <= set(main.names())
    for name in main.names():
        command = main.load(name)
        assert command.SUMMARY[0].islower()
        assert command.parser().prog == f"xm {name}"
        assert callable(command.run)


@pytest.mark.parametrize(
    ("word", "name"), [("create", "create"), ("cr", "create"), ("h", "help"), ("vcpu-l", "vcpu-list")]
)
def test_a_beginning_will_do(word: str, name: str) -> None:
    assert main.find(word) == name


def test_a_whole_name_wins_over_longer_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "names", lambda: ["list", "list-more"])
    assert main.find("list") == "list"
    with pytest.raises(UsageError, match='"li" may mean list, list-more: write more of it'):
        main.find("li")


@pytest.mark.parametrize(("word", "hint"), [("craete", 'did you mean "create"\\?'), ("zzz", 'see "xm help"')])
def test_an_unknown_word_is_answered_with_a_hint(word: str, hint: str) -> None:
    with pytest.raises(UsageError, match=f'there is no command "{word}"; {hint}'):
        main.find(word)


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (UsageError("wrong"), 2, "xm: wrong\n"),
        (XmError("failed"), 1, "xm: failed\n"),
        (ApiError("refused", "a\nb"), 2, "xm: a\\nb\n"),
        (UnreachableError("no xend"), 1, "xm: no xend\n"),
        (KeyboardInterrupt(), 130, ""),
        (
            OSError(28, "No space left on device"),
            1,
            "xm: the output cannot be written: No space left on device\n",
        ),
    ],
)
def test_failures_become_a_sentence_and_a_status(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    status: int,
    said: str,
) -> None:
    def fail(argv: list[str]) -> int:
        raise error

    monkeypatch.setattr(main.load("help"), "run", fail)
    assert main.main(["help"]) == status
    assert capsys.readouterr() == ("", said)


@pytest.mark.parametrize("words", [[], ["-h"], ["--help"]])
def test_help_is_what_no_words_mean(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(words) == 0
    assert capsys.readouterr().out.startswith("usage: xm COMMAND")


def test_it_starts_fast_and_alone() -> None:
    """A command imports the API's client and itself, not xend and not what only other commands need."""
    code = "import sys; from xenion.xm.commands import list; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not {"curses", "asyncio", "cffi", "xenion.core", "xenion.domain", "xenion.xend"} & loaded
    assert not {name for name in loaded if name.startswith("xenion.config")}


@pytest.mark.parametrize(
    ("redirection", "status", "complaint"),
    [
        (">/dev/full", 1, "xm: the output cannot be written: No space left on device\n"),
        (">&-", 0, ""),
        ("<&-", 0, ""),
        ("| true", 0, ""),
        ("2>&-", 0, ""),
    ],
)
def test_outputs_that_are_none(redirection: str, status: int, complaint: str) -> None:
    process = Process("help", shell=f'"$@" {redirection}')
    ended, _, err = process.finish()
    assert (ended, err) == (status, complaint)


def test_an_early_ctrl_c_ends_it_in_silence() -> None:
    """Before `run` there is nobody who could tell it."""
    code = "import os, sys; sys.argv = ['/bin/xm']; import xenion.xm; os.kill(os.getpid(), 2); input()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, stdin=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (-2, "")


@pytest.mark.parametrize(("program", "begun"), [("xm", "default_int_handler"), ("other", "SIG_IGN")])
def test_ctrl_c_is_told_by_the_command(program: str, begun: str) -> None:
    """Unless whoever started us wants it to be ignored."""
    code = f"""
import signal, sys
signal.signal(signal.SIGINT, signal.{begun})
sys.argv = ["{program}"]
from xenion.xm import main
main.main = lambda words: print(signal.getsignal(signal.SIGINT) is signal.{begun}) or 7
main.run()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (7, "True\n", "")


def test_nobodys_home(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def unknown() -> Path:
        raise RuntimeError

    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr("os.geteuid", lambda: 54321)
    monkeypatch.setattr(Path, "home", unknown)
    assert main.main(["list"]) == 1
    assert capsys.readouterr().err == "xm: your home directory is not known: set HOME or XDG_STATE_HOME\n"
