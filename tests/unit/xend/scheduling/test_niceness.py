"""Nice values, of sessions and of threads."""

import errno
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenion.config.domain import WEIGHT_MAX
from xenion.xend.scheduling import niceness
from xenion.xend.scheduling.niceness import LEAST, PAUSE_S, STEP, TRIES, by_sessions, nice_of, set_share

WEIGHTS = st.integers(1, WEIGHT_MAX)


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of process 11 with threads 11 and 12, on a kernel that groups by sessions."""
    monkeypatch.setattr(niceness, "ENABLED", tmp_path / "enabled")
    (tmp_path / "enabled").write_text("1\n")
    for thread in ("11", "12"):
        (tmp_path / "11" / "task" / thread).mkdir(parents=True)
    (tmp_path / "11" / "autogroup").write_text("/autogroup-5 nice 0\n")
    return tmp_path


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    made: list[float] = []
    monkeypatch.setattr(time, "sleep", made.append)
    return made


def busy(monkeypatch: pytest.MonkeyPatch, times: int, number: int = errno.EAGAIN) -> list[str]:
    """Writing fails so many times; what was written then."""
    written: list[str] = []
    failures = [OSError(number, os.strerror(number)) for _ in range(times)]

    def write(path: Path, text: str) -> None:
        assert path.name == "autogroup"
        if failures:
            raise failures.pop()
        written.append(text)

    monkeypatch.setattr(Path, "write_text", write)
    return written


@pytest.mark.parametrize(
    ("weight", "nice"), [(256, 10), (512, 7), (128, 13), (1024, 4), (1, 19), (WEIGHT_MAX, 0)]
)
def test_nice_values_of_weights(weight: int, nice: int) -> None:
    assert nice_of(weight) == nice


@given(WEIGHTS, WEIGHTS)
def test_a_heavier_one_is_never_nicer(one: int, other: int) -> None:
    light, heavy = sorted((one, other))
    assert 0 <= nice_of(heavy) <= nice_of(light) <= LEAST


@given(st.integers(40, 2000))
def test_ratios_are_kept_within_a_half_step(weight: int) -> None:
    kept = STEP ** (nice_of(256) - nice_of(weight))
    assert weight / 256 / STEP**0.51 <= kept <= weight / 256 * STEP**0.51


@pytest.mark.parametrize(("content", "so"), [("1\n", True), ("0\n", False), (None, False)])
def test_the_kernel_says_whether_it_groups_by_sessions(proc: Path, content: str | None, so: bool) -> None:
    if content is None:
        (proc / "enabled").unlink()
    else:
        (proc / "enabled").write_text(content)
    assert by_sessions() is so


def test_a_session_gets_its_nice_value(proc: Path) -> None:
    set_share(11, 512, proc)
    assert (proc / "11" / "autogroup").read_text() == "7"


@pytest.mark.parametrize("times", [0, 1, TRIES - 1])
def test_a_kernel_that_wants_a_pause_gets_it(
    proc: Path, monkeypatch: pytest.MonkeyPatch, pauses: list[float], times: int
) -> None:
    written = busy(monkeypatch, times)
    set_share(11, 256, proc)
    assert (written, pauses) == (["10"], [PAUSE_S] * times)


@pytest.mark.parametrize(
    ("number", "times", "waits"), [(errno.EAGAIN, TRIES, TRIES - 1), (errno.EPERM, 1, 0)]
)
def test_what_cannot_be_set_is_told(
    proc: Path, monkeypatch: pytest.MonkeyPatch, pauses: list[float], number: int, times: int, waits: int
) -> None:
    written = busy(monkeypatch, times, number)
    with pytest.raises(OSError, match=os.strerror(number)):
        set_share(11, 256, proc)
    assert (written, pauses) == ([], [PAUSE_S] * waits)


def test_without_sessions_each_thread_gets_it(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (proc / "enabled").write_text("0\n")
    set_to: set[tuple[int, int, int]] = set()
    monkeypatch.setattr(os, "setpriority", lambda *values: set_to.add(values))
    set_share(11, 128, proc)
    assert set_to == {(os.PRIO_PROCESS, 11, 13), (os.PRIO_PROCESS, 12, 13)}
    assert "nice 0" in (proc / "11" / "autogroup").read_text()


def test_a_thread_that_has_gone_keeps_nobody_else_from_it(
    proc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (proc / "enabled").write_text("0\n")
    (proc / "11" / "task" / "13").mkdir()
    set_to: set[int] = set()

    def set_priority(which: int, thread: int, nice: int) -> None:
        if thread == 12:
            raise ProcessLookupError
        set_to.add(thread)

    monkeypatch.setattr(os, "setpriority", set_priority)
    set_share(11, 128, proc)
    assert set_to == {11, 13}
