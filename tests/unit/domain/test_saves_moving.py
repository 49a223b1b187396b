"""Domains that move: copied while the guest runs, held, left to another host; and nobody goes on twice."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.domain.holding_kit import Asked
from tests.unit.domain.saves_kit import LIVE, OK, WATCH, Bench, bench_of, no_room_for_thread
from xenion.domain import saves
from xenion.domain.control import Refusal
from xenion.domain.devices import DeviceError
from xenion.domain.saved.format import SaveError
from xenion.domain.saved.rounds import Round
from xenion.domain.saves import Moving

STOPPED = "the domain cannot be moved: its guest has stopped"
CANCELLED = "the save was cancelled"
IN_USE = "vbd 51712: another domain uses it"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    with bench_of(monkeypatch) as made:
        yield made


def turns(bench: Bench, count: int = 20) -> None:
    for _ in range(count):
        bench.turn()


def copying(bench: Bench, **options: Any) -> Asked:
    """Its memory is being copied."""
    asked = bench.begin(moving=LIVE, **options)
    assert bench.copying.wait(60)
    return asked


STAGES = ("copying", "asking", "parking", "devices", "store", "tree", "writing")


def at(bench: Bench, stage: str) -> Asked:
    """As far as that."""
    bench.guest.stuck = stage
    asked = copying(bench, ask=stage == "asking")
    if stage == "copying":
        return asked
    bench.copied.set()
    if stage == "asking":
        while not bench.guest.asked:
            bench.turn()
        return asked
    while not bench.held:
        bench.turn()
    if stage != "parking":
        bench.park()
    if stage == "writing":
        assert bench.entered.wait(60)
    return asked


def released(bench: Bench, moving: Moving = LIVE) -> Asked:
    asked = bench.whole(moving)
    bench.release()
    return asked


# --- the plain way


def test_one_stage_after_the_other(bench: Bench) -> None:
    """It runs while it is copied, and nothing of it is touched."""
    asked = copying(bench)
    turns(bench)
    assert (bench.guest.holders, bench.guest.log, asked.answers) == (set(), [], [])
    bench.copied.set()
    while not bench.held:
        bench.turn()
    assert bench.guest.log == []
    bench.park()
    assert bench.entered.wait(60)
    assert bench.guest.log == ["devices", "store", "tree", "state"]
    assert (asked.answers, bench.closed) == ([], [])
    bench.go_on.set()
    assert bench.answered(asked) == OK
    assert (bench.held, bench.back.locked, len(bench.closed), len(bench.streams)) == (True, True, 1, 1)
    bench.release()
    assert (bench.held, bench.back.locked) == (True, False)
    assert bench.finish(keep=False)
    assert (bench.held, bench.guest.log[-1]) == (True, "state")
    assert not bench.streams[0].watched


def test_a_guest_that_is_parked_for_another_reason_is_copied_all_the_same(bench: Bench) -> None:
    bench.guest.holders.add("xend")
    bench.guest.domain.parked = True
    copying(bench)
    bench.on_dom0(bench.saves.look)
    assert bench.guest.log == []
    bench.copied.set()
    assert bench.entered.wait(60)
    assert bench.guest.holders == {"xend", "save"}


def test_without_a_watch_it_is_held_at_once(bench: Bench) -> None:
    asked = bench.begin(moving=Moving(None))
    assert bench.held
    assert asked.figures == [{"held": 1}]
    bench.park()
    bench.go_on.set()
    assert bench.answered(asked) == OK
    assert not bench.copying.is_set()


@pytest.mark.parametrize("suspends", [True, False])
def test_a_guest_may_be_asked_to_suspend_itself_when_it_has_been_copied(bench: Bench, suspends: bool) -> None:
    bench.guest.feature = b"1" if suspends else b"0"
    asked = copying(bench, ask=True)
    turns(bench)
    assert bench.guest.asked == []
    bench.copied.set()
    if suspends:
        while not bench.guest.asked:
            bench.turn()
        assert not bench.held
        bench.guest.domain.suspended = True
    while not bench.held:
        bench.park()
    bench.go_on.set()
    bench.park()
    assert bench.answered(asked) == OK
    assert bench.guest.asked == ([("control/shutdown", "suspend")] if suspends else [])


def test_figures_are_told(bench: Bench) -> None:
    """Of each round as it ends, then that the guest is about to be held."""
    bench.rounds = [Round(1, 100, 5000, 0.5, 10, 10), Round(2, 10, 500, 0.05, 0, 0)]
    asked = copying(bench)
    turns(bench)
    assert [figures["round"] for figures in asked.figures] == [1, 2]
    bench.copied.set()
    while not bench.held:
        bench.turn()
    bench.park()
    bench.go_on.set()
    assert bench.answered(asked) == OK
    assert [figures.get("round") for figures in asked.figures] == [1, 2, None]
    assert asked.figures[-1] == {"held": 1}
    assert asked.figures[0]["written_pages"] == 10


def test_a_save_tells_no_figures(bench: Bench) -> None:
    assert bench.whole().figures == []


@pytest.mark.parametrize("worst_s", [None, 0.3])
def test_how_long_it_may_be_held(bench: Bench, worst_s: float | None) -> None:
    bench.rounds = [Round(1, 1000, 5000, 1.0, 500, 0)]
    said: list[bool] = []
    bench.copy_end = lambda rounds: said.append(bool(rounds.why_not))
    bench.copied.set()
    bench.begin(moving=Moving(WATCH, worst_s))
    while not said:
        bench.turn()
    assert said == [worst_s is not None]


@pytest.mark.parametrize("stage", STAGES)
def test_one_at_a_time(bench: Bench, stage: str) -> None:
    at(bench, stage)
    for moving in (LIVE, Moving(None), None):
        with pytest.raises(Refusal, match="is being saved or moved already"):
            bench.begin(moving=moving)
    assert bench.saves.busy


def test_a_request_without_a_stream_watches_nobody(bench: Bench) -> None:
    with pytest.raises(Refusal, match="no descriptor"):
        bench.begin(fds=0, moving=LIVE)
    assert (bench.saves.busy, bench.streams) == (False, [])


def test_what_the_other_host_has_got(bench: Bench) -> None:
    """Each migration hears its own."""
    for _ in range(2):
        bench.copying.clear()
        copying(bench)
        echo = bench.streams[-1].echo
        assert not echo.heard(1, 0.0)
        bench.on_dom0(lambda: bench.saves.echo(1))
        assert (echo.heard(1, 0.0), echo.heard(2, 0.0)) == (True, False)
        bench.on_dom0(bench.saves.cancel)
        bench.copied.set()
        while bench.saves.busy:
            bench.turn()
        bench.copied.clear()
    bench.on_dom0(lambda: bench.saves.echo(3))
    bench.whole(LIVE)
    bench.on_dom0(lambda: bench.saves.echo(4))
    assert bench.held


# --- it comes to nothing


def test_a_guest_that_writes_too_much(bench: Bench) -> None:
    def end(rounds: object) -> None:
        raise SaveError("the domain stays here: its guest would stand still")

    bench.copy_end = end
    asked = copying(bench)
    bench.copied.set()
    assert bench.answered(asked) == "the domain stays here: its guest would stand still"
    assert bench.goes_on()
    bench.copy_end = lambda rounds: None
    bench.whole(LIVE)


def test_a_bug_of_ours(bench: Bench, capfd: pytest.CaptureFixture[str]) -> None:
    bench.copy_end = lambda rounds: [][0]
    asked = copying(bench)
    bench.copied.set()
    assert "process.log" in bench.answered(asked)
    assert bench.goes_on()
    assert "IndexError" in capfd.readouterr().err


@pytest.mark.parametrize("which", [1, 2])
def test_a_host_without_room_for_a_thread(bench: Bench, monkeypatch: pytest.MonkeyPatch, which: int) -> None:
    """For the copy, or for the rest."""
    bench.copied.set()
    with no_room_for_thread(monkeypatch, which):
        asked = bench.begin(moving=LIVE)
        bench.park()
        answer = bench.answered(asked)
    assert answer == "the domain cannot be moved: the host has no room for another thread"
    assert bench.goes_on()
    bench.guest.log.clear()
    bench.whole(LIVE)


@pytest.mark.parametrize("stuck", ["devices", "store", "tree"])
def test_what_does_not_come_to_rest(bench: Bench, monkeypatch: pytest.MonkeyPatch, stuck: str) -> None:
    monkeypatch.setattr(saves, "QUIET_SECONDS", 0)
    asked = at(bench, stuck)
    assert bench.answered(asked).startswith("the domain cannot be moved: its devices do not come to rest")
    assert bench.goes_on()


def test_a_guest_that_cannot_be_stopped(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saves, "PARKING_SECONDS", 0)
    asked = copying(bench)
    bench.copied.set()
    assert bench.answered(asked) == "the domain cannot be moved: the guest could not be stopped"
    assert bench.goes_on()


@pytest.mark.parametrize("stage", STAGES)
def test_cancelled(bench: Bench, stage: str) -> None:
    asked = at(bench, stage)
    bench.on_dom0(bench.saves.cancel)
    if stage == "parking":
        bench.park()
    bench.on_dom0(bench.guest.comes_to_rest)
    bench.copied.set()
    bench.go_on.set()
    assert bench.answered(asked) == CANCELLED
    assert bench.goes_on()
    turns(bench)
    assert (bench.back.locked, bench.saves.busy) == (True, False)


def test_cancelled_at_the_very_end_of_the_copy(bench: Bench) -> None:
    bench.copy_end = lambda rounds: bench.on_dom0(bench.saves.cancel)
    asked = copying(bench)
    bench.copied.set()
    assert bench.answered(asked) == CANCELLED
    assert bench.goes_on()


@pytest.mark.parametrize("stage", STAGES)
def test_xend_is_lost(bench: Bench, stage: str) -> None:
    """Whatever it is about to do then, the guest goes on in the end."""
    asked = at(bench, stage)
    asked.abandoned = True
    if stage == "asking":
        bench.guest.domain.suspended = True
    bench.park()
    bench.on_dom0(bench.guest.comes_to_rest)
    bench.copied.set()
    bench.go_on.set()
    while not asked.answers:
        bench.park()
    assert asked.answers == [CANCELLED]
    assert bench.goes_on()


# --- the guest stops


@pytest.mark.parametrize("stage", ["asking", "parking"])
def test_a_guest_that_stops_instead(bench: Bench, stage: str) -> None:
    asked = at(bench, stage)
    bench.guest.domain.stopping = True
    bench.on_dom0(bench.saves.look)
    assert bench.answered(asked) == STOPPED
    assert bench.goes_on()


def test_a_guest_that_stops_while_it_is_copied_and_is_preserved(bench: Bench) -> None:
    """Its machine stays: the copy ends, and it is found out then."""
    asked = copying(bench)
    bench.guest.domain.stopping = True
    bench.on_dom0(bench.saves.look)
    bench.copied.set()
    assert bench.answered(asked) == STOPPED
    assert bench.goes_on()


@pytest.mark.parametrize("stage", STAGES)
def test_a_machine_that_goes(bench: Bench, stage: str) -> None:
    """A guest that ends has its memory taken: nobody reads it any more, and the watch has ended."""
    asked = at(bench, stage)

    def let_go() -> None:
        bench.copied.set()
        bench.go_on.set()

    further = threading.Timer(0.05, let_go)
    further.start()
    bench.saves.settle()
    further.join()
    assert not [thread for thread in threading.enumerate() if thread.name == "save"]
    assert (asked.answers, len(bench.closed), bench.saves.busy) == ([STOPPED], 1, False)
    assert not any(stream.watched for stream in bench.streams)
    bench.on_dom0(bench.guest.comes_to_rest)
    bench.park()
    turns(bench)
    assert (asked.answers, len(bench.closed)) == ([STOPPED], 1)


@pytest.mark.parametrize("stage", ["whole", "released"])
def test_a_machine_that_goes_though_it_is_held(bench: Bench, stage: str) -> None:
    """Somebody has destroyed it."""
    asked = bench.whole(LIVE)
    if stage == "released":
        bench.release()
    bench.saves.settle()
    assert (asked.answers, len(bench.closed), bench.saves.busy) == ([OK], 1, False)
    assert not bench.finish(keep=True)


# --- left to another host


def test_released_it_stays_held_whatever_becomes_of_xend(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saves, "LOOK_SECONDS", 0.001)
    asked = released(bench)
    asked.abandoned = True
    turns(bench, 50)
    bench.on_dom0(bench.saves.cancel)
    bench.on_dom0(bench.saves.look)
    turns(bench, 50)
    assert (bench.held, bench.back.locked, bench.guest.log[-1]) == (True, False, "state")
    assert bench.finish(keep=True)
    assert (bench.goes_on(), bench.back.locked) == (True, True)


def test_released_twice(bench: Bench) -> None:
    released(bench)
    bench.release()
    assert (bench.held, bench.back.locked) == (True, False)
    assert bench.finish(keep=True)
    assert bench.goes_on()


@pytest.mark.parametrize("stage", STAGES)
def test_released_too_early(bench: Bench, stage: str) -> None:
    asked = at(bench, stage)
    with pytest.raises(Refusal):
        bench.release()
    assert (bench.back.locked, asked.answers) == (True, [])


def test_released_when_there_is_nothing(bench: Bench) -> None:
    with pytest.raises(Refusal, match="has gone on"):
        bench.release()
    assert bench.back.locked


@pytest.mark.parametrize("how", ["cancelled", "finished", "lost"])
def test_released_when_it_has_gone_on(bench: Bench, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """And it is not held again, and keeps its disks."""
    monkeypatch.setattr(saves, "LOOK_SECONDS", 0.001)
    asked = bench.whole(LIVE)
    if how == "cancelled":
        bench.on_dom0(bench.saves.cancel)
    elif how == "finished":
        bench.finish(keep=True)
    asked.abandoned = True
    while bench.guest.holders:
        bench.turn()
    with pytest.raises(Refusal, match="has gone on"):
        bench.release()
    assert (bench.goes_on(), bench.back.locked) == (True, True)


def test_it_goes_on_with_its_disks(bench: Bench) -> None:
    released(bench)
    assert bench.finish(keep=True)
    assert (bench.goes_on(), bench.back.locked) == (True, True)
    assert not bench.finish(keep=True)
    assert not bench.finish(keep=False)
    bench.guest.log.clear()
    bench.whole(LIVE)


def test_its_disks_are_anothers(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stays held, until they are not, or it is given up."""
    monkeypatch.setattr(saves, "LOOK_SECONDS", 0.001)
    asked = released(bench)
    bench.back.taken = IN_USE
    for _ in range(3):
        with pytest.raises(DeviceError, match=IN_USE):
            bench.finish(keep=True)
        turns(bench)
        assert (bench.held, bench.back.locked, bench.guest.log[-1]) == (True, False, "state")
    asked.abandoned = True
    turns(bench)
    assert bench.held
    bench.back.taken = ""
    assert bench.finish(keep=True)
    assert bench.goes_on()


def test_its_disks_are_anothers_for_good(bench: Bench) -> None:
    released(bench)
    bench.back.taken = IN_USE
    with pytest.raises(DeviceError):
        bench.finish(keep=True)
    assert bench.finish(keep=False)
    assert (bench.held, bench.guest.log[-1], bench.back.locked) == (True, "state", False)
    assert not bench.finish(keep=True)
    with pytest.raises(Refusal):
        bench.release()


def test_over_it_never_goes_on(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saves, "LOOK_SECONDS", 0.001)
    asked = released(bench)
    assert bench.finish(keep=False)
    asked.abandoned = True
    acts: list[Callable[[], None]] = [bench.saves.cancel, bench.saves.look]
    for act in acts:
        bench.on_dom0(act)
    turns(bench)
    assert (bench.held, bench.guest.log[-1]) == (True, "state")


def test_what_was_not_released_goes_on_without_locks(bench: Bench) -> None:
    """It has never let go of its disks."""
    bench.whole(LIVE)
    bench.back.taken = IN_USE
    assert bench.finish(keep=True)
    assert bench.goes_on()


def test_nothing_stays_open(bench: Bench) -> None:
    for _ in range(3):
        asked = released(bench)
        bench.finish(keep=True)
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(asked.fd)
        bench.guest.domain.parked = False
    assert len(bench.streams) == len(bench.closed) == 3


# --- whatever is asked


ACTS = (
    "move",
    "save",
    "suspended",
    "copied",
    "park",
    "written",
    "turn",
    "cancel",
    "lost",
    "taken",
    "free",
    "rest",
)
ENDS = ("release", "keep", "drop")
STEPS = st.lists(st.one_of(st.just("whole"), st.sampled_from(ENDS), st.sampled_from(ACTS)), max_size=25)


@settings(max_examples=150)
@given(STEPS, st.sampled_from(["", "", "devices", "store", "tree"]))
def test_it_goes_on_here_or_is_another_hosts(steps: list[str], stuck: str) -> None:
    """Never both; and whoever has asked is answered once."""
    with pytest.MonkeyPatch.context() as patch, closing(Bench(patch)) as bench:
        patch.setattr(saves, "LOOK_SECONDS", 0.001)
        bench.guest.stuck = stuck
        asked: list[Asked] = []
        released = over = False

        def whole() -> None:
            if not bench.saves.busy and not stuck:
                asked.append(bench.whole(LIVE))

        def lost() -> None:
            for each in asked:
                each.abandoned = True

        acts: dict[str, Callable[[], object]] = {
            "whole": whole,
            "move": lambda: asked.append(bench.begin(moving=LIVE)),
            "save": lambda: asked.append(bench.begin()),
            "suspended": lambda: asked.append(bench.begin(ask=True, moving=Moving(None))),
            "copied": bench.copied.set,
            "written": bench.go_on.set,
            "park": bench.park,
            "turn": lambda: turns(bench, 5),
            "cancel": lambda: bench.on_dom0(bench.saves.cancel),
            "release": bench.release,
            "keep": lambda: bench.finish(keep=True),
            "drop": lambda: bench.finish(keep=False),
            "lost": lost,
            "taken": lambda: setattr(bench.back, "taken", IN_USE),
            "free": lambda: setattr(bench.back, "taken", ""),
            "rest": lambda: bench.on_dom0(bench.guest.comes_to_rest),
        }
        for step in steps:
            if over and step in ("whole", "move", "save", "suspended"):
                continue  # its process is about to end
            try:
                answer = acts[step]()
            except (Refusal, DeviceError):
                continue
            released = (released or step == "release") and not (step == "keep" and answer)
            over = over or (step == "drop" and bool(answer))
            if released or over:
                assert bench.held
            assert bench.back.locked != released
        bench.wind_down()
        if released or over:
            assert bench.held
        assert all(len(each.answers) == 1 for each in asked)
        assert len(bench.closed) == len(asked)
