"""Running the host's programs."""

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from xenion.images import programs
from xenion.images.programs import ProgramError, find, follow, run


def test_sbin_is_searched_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert programs.search_path().split(":")[:2] == ["/usr/bin", "/bin"]
    assert "/usr/sbin" in programs.search_path().split(":")
    assert find("sh")
    assert find("no-such-program-here") is None


def test_what_a_program_says(tmp_path: Path) -> None:
    said = run(
        ["sh", "-c", "pwd; cat; echo $MORE $LC_ALL"], folder=tmp_path, given=b"given\n", more={"MORE": "x"}
    )
    assert said == f"{tmp_path}\ngiven\nx C\n"


def test_a_failure_is_told_by_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(ProgramError, match=r"^sh has failed: the reason$"):
        run(["sh", "-c", "echo noise >&2; echo the reason >&2; echo >&2; exit 3"], folder=tmp_path)
    with pytest.raises(ProgramError, match=r"^sh has failed: status 3$"):
        run(["sh", "-c", "exit 3"], folder=tmp_path)


needs_setpriv = pytest.mark.skipif(find("setpriv") is None, reason="setpriv (util-linux) is not here")


@needs_setpriv
def test_lines_are_heard_as_they_come(tmp_path: Path) -> None:
    lines: list[str] = []
    read, write = os.pipe()
    status = follow(
        ["sh", "-c", f"echo one; echo two >&2; echo three >/proc/self/fd/{write}; printf '\\377'; exit 7"],
        folder=tmp_path,
        on_line=lines.append,
        descriptors=[write],
    )
    os.close(write)
    with os.fdopen(read) as pipe:
        assert pipe.read() == "three\n"
    assert (status, lines) == (7, ["one", "two", "\ufffd"])


@needs_setpriv
def test_an_interruption_ends_the_program_and_its_children(tmp_path: Path) -> None:
    """The program says when it has begun, and what its end was."""
    script = "trap 'echo tidied >out; exit' TERM; echo $$; sh -c 'echo $$; exec sleep 1000' & wait"
    processes: list[int] = []

    def interrupt(line: str) -> None:
        processes.append(os.pidfd_open(int(line)))
        if len(processes) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        follow(["sh", "-c", script], folder=tmp_path, on_line=interrupt)
    assert (tmp_path / "out").read_text() == "tidied\n"
    for process in processes:
        assert select.select([process], [], [], 60)[0]
        os.close(process)


@needs_setpriv
def test_a_program_that_does_not_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "_END_S", 0.1)

    def interrupt(_: str) -> None:
        raise LookupError

    with pytest.raises(LookupError):
        follow(
            ["sh", "-c", "trap '' TERM; echo; while :; do sleep 1000; done"],
            folder=tmp_path,
            on_line=interrupt,
        )


@needs_setpriv
def test_it_dies_with_us(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from xenion.images.programs import follow; "
        "follow(['sh', '-c', 'echo $$; exec sleep 1000'], folder=Path('.'), "
        "on_line=lambda line: print(line, flush=True))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        watched = os.pidfd_open(int(process.stdout.readline()))
        process.send_signal(signal.SIGKILL)
        assert select.select([watched], [], [], 60)[0]
    os.close(watched)
