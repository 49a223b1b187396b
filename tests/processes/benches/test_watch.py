"""Real programs under a deadline."""

import os
import select
import sys
from pathlib import Path

import pytest

from benches import watch
from benches.watch import Watched
from tests.descriptors import descriptors

SOON = 20.0


def shell(script: str, limit: float = SOON) -> Watched:
    return Watched(["sh", "-c", script], limit)


def test_keeps_output_and_tells_times() -> None:
    with shell("echo one; echo 'BENCH x'; echo two >&2") as watched:
        first = watched.wait_for(b"BENCH ")
        watched.wait_end()
    assert watched.text == "one\nBENCH x\ntwo\n"
    assert watched.failure is None
    assert first is not None
    assert watched.ended is not None
    assert 0 < first <= watched.ended < SOON


def test_a_marker_in_two_pieces_is_found() -> None:
    with shell("printf BEN; read x </dev/null; printf 'CH '; cat") as watched:
        assert watched.wait_for(b"BENCH ") is not None


def test_a_marker_that_never_comes() -> None:
    with shell("echo nothing") as watched:
        assert watched.wait_for(b"BENCH ") is None
        watched.wait_end()
    assert watched.failure is None


def test_there_is_no_terminal_and_no_input() -> None:
    with shell("cat; test -t 0 || echo none") as watched:
        watched.wait_end()
    assert watched.text == "none\n"


def test_a_hung_program_is_killed_with_its_children() -> None:
    with shell("sleep 1000 & echo $!; wait", limit=0.5) as watched:
        watched.wait_end()
        child = os.pidfd_open(int(watched.text))
    assert watched.failure == "killed: still running after 0.5 s"
    assert watched.ended is None
    assert select.select([child], [], [], SOON)[0] == [child]
    os.close(child)


def test_a_leftover_that_holds_the_output_open_is_not_waited_for() -> None:
    with shell("setsid sleep 30 & echo $!") as watched:
        watched.wait_end()
    os.kill(int(watched.text), 9)
    assert watched.failure is None
    assert watched.ended is not None
    assert watched.ended < SOON


def test_a_program_that_closes_its_output_is_waited_for() -> None:
    with shell("exec >&- 2>&-; read x </dev/null; exit 3") as watched:
        watched.wait_end()
    assert watched.failure == "ended with exit status 3"


@pytest.mark.parametrize(
    ("script", "failure"),
    [("exit 7", "ended with exit status 7"), ("kill -9 $$", "ended with killed by signal 9")],
)
def test_a_bad_end_is_a_failure(script: str, failure: str) -> None:
    with shell(script) as watched:
        watched.wait_end()
    assert watched.failure == failure


def test_a_program_that_prints_for_ever_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "MOST_OUTPUT", 2 << 20)
    with Watched([sys.executable, "-c", "while True: print('x' * 4096)"], SOON) as watched:
        watched.wait_end()
    assert watched.failure == "killed: printed more than 2 MiB"


def test_the_log_ends_with_the_failure(tmp_path: Path) -> None:
    with shell("echo said; exit 1") as watched:
        watched.wait_end()
    path = watch.save_log(watched, tmp_path / "a" / "run.log")
    assert path.read_text() == "said\n\n[ended with exit status 1]\n"


def test_descriptors_are_given_back() -> None:
    def count() -> int:
        return len(descriptors())

    before = count()
    with shell("true") as watched:
        watched.wait_end()
    assert count() == before
