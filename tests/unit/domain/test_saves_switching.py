"""Checkpoints of a guest that writes to disks: it is held until all is written and its disks have been switched."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.domain.holding_kit import Asked
from tests.unit.domain.saves_kit import OK, Bench, bench_of, no_room_for_thread
from xenion.dom0.xenstore.trees import TreesError
from xenion.domain import saves
from xenion.domain.control import Refusal
from xenion.domain.devices import DeviceError
from xenion.domain.saved.format import SaveError
from xenion.domain.saved.rounds import Round

STOPPED = "the domain cannot be saved: its guest has stopped"
CANCELLED = "the save was cancelled"
FULL = "there is no room"
UNFIT = "disk xvda: what stands by for it has another size"
REST = {"rest": 1}
AT_REST = ["devices", "store", "tree", "state"]
SWITCHED, GOES_ON = ["devices switch"], ["store goes on", "devices go on"]

BEFORE = ("copying", "asking", "parking", "devices", "store", "tree")
WAITING = ("writing", "switching")


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saves, "LOOK_SECONDS", 0.001)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    with bench_of(monkeypatch) as made:
        yield made


def turns(bench: Bench, count: int = 20) -> None:
    for _ in range(count):
        bench.turn()


def at(bench: Bench, stage: str, **options: Any) -> Asked:
    """As far as that."""
    bench.guest.stuck = stage
    bench.entered.clear()
    if stage != "copying":
        bench.copied.set()
    asked = bench.begin(keep=True, ask=stage == "asking", **({"switch": True} | options))
    if stage == "copying":
        assert bench.copying.wait(60)
        return asked
    if stage == "asking":
        while not bench.guest.asked:
            bench.turn()
        return asked
    while not bench.held:
        bench.turn()
    if stage != "parking":
        bench.park()
    if stage in WAITING:
        assert bench.entered.wait(60)
    if stage == "switching":
        write(bench)
    return asked


def write(bench: Bench) -> None:
    """All is in the file, and Dom0 knows."""
    bench.go_on.set()
    while any(thread.name == "save" for thread in threading.enumerate()):
        bench.turn()
    bench.turn()


def further(bench: Bench) -> None:
    """Whatever it waits for but xend."""
    bench.on_dom0(bench.guest.comes_to_rest)
    bench.copied.set()
    bench.go_on.set()


def raising(why: str) -> Callable[[], None]:
    def end() -> None:
        raise SaveError(why)

    return end


def is_whole(bench: Bench, asked: Asked) -> bool:
    answer = bench.answered(asked)
    return bool(answer == {**OK, "held_s": answer["held_s"]} and 0 < answer["held_s"] < 60)


# --- the plain way


def test_it_is_told_when_all_is_at_rest(bench: Bench) -> None:
    """Once, and without waiting for the file."""
    asked = at(bench, "writing")
    turns(bench)
    assert (asked.figures, asked.answers, bench.guest.log) == ([REST], [], AT_REST)
    write(bench)
    turns(bench)
    assert asked.figures == [REST]


@pytest.mark.parametrize("stage", BEFORE)
def test_it_is_not_told_before(bench: Bench, stage: str) -> None:
    asked = at(bench, stage)
    turns(bench)
    assert asked.figures == []


@pytest.mark.parametrize("stage", ["devices", "store", "tree"])
def test_it_is_told_as_soon_as_the_last_one_rests(bench: Bench, stage: str) -> None:
    asked = at(bench, stage)
    bench.on_dom0(bench.guest.comes_to_rest)
    assert asked.figures == [REST]
    assert bench.entered.wait(60)


def test_it_is_told_after_the_figures_of_the_copy(bench: Bench) -> None:
    bench.rounds = [Round(1, 100, 5000, 0.5, 10, 10)]
    asked = at(bench, "writing")
    assert [figures.get("round") for figures in asked.figures] == [1, None]
    assert asked.figures[-1] == REST


@pytest.mark.parametrize("stage", WAITING)
def test_it_stays_held_until_its_disks_are_switched(bench: Bench, stage: str) -> None:
    asked = at(bench, stage)
    turns(bench, 50)
    bench.on_dom0(bench.saves.look)
    assert (bench.held, bench.guest.log, asked.answers, bench.closed) == (True, AT_REST, [], [])
    assert bench.saves.busy


def test_switched_before_the_file_is_written(bench: Bench) -> None:
    asked = at(bench, "writing")
    assert bench.switch()
    turns(bench)
    assert (bench.held, bench.guest.log, asked.answers) == (True, AT_REST + SWITCHED, [])
    bench.go_on.set()
    assert is_whole(bench, asked)
    assert (bench.goes_on(), bench.guest.log) == (True, AT_REST + SWITCHED + GOES_ON)


def test_switched_after_the_file_is_written(bench: Bench) -> None:
    """It goes on at once, and before the file is on the disk."""
    syncing, synced = threading.Event(), threading.Event()

    def sync() -> None:
        syncing.set()
        assert synced.wait(60)

    bench.sync_end = sync
    asked = at(bench, "switching")
    assert not syncing.is_set()
    assert bench.switch()
    assert (bench.held, bench.guest.log) == (False, AT_REST + SWITCHED + GOES_ON)
    assert syncing.wait(60)
    assert (asked.answers, bench.closed) == ([], [])
    synced.set()
    assert is_whole(bench, asked)
    assert bench.goes_on()


def test_a_guest_that_suspends_itself_is_switched_too(bench: Bench) -> None:
    asked = at(bench, "asking")
    bench.guest.domain.suspended = bench.guest.domain.parked = True
    bench.on_dom0(bench.saves.look)
    assert bench.entered.wait(60)
    assert bench.switch()
    bench.go_on.set()
    assert is_whole(bench, asked)
    assert bench.goes_on()


@pytest.mark.parametrize("stage", WAITING)
def test_one_after_the_other(bench: Bench, stage: str) -> None:
    for _ in range(3):
        asked = at(bench, stage)
        assert bench.switch()
        bench.go_on.set()
        assert is_whole(bench, asked)
        assert bench.guest.log == AT_REST + SWITCHED + GOES_ON
        bench.guest.log.clear()
        bench.go_on.clear()
        bench.guest.domain.parked = False
    assert len(bench.closed) == 3


# --- nobody waits for it


def test_to_switch_when_there_is_nothing(bench: Bench) -> None:
    assert not bench.switch()


@pytest.mark.parametrize("stage", BEFORE)
def test_switched_too_early(bench: Bench, stage: str) -> None:
    """It is still wanted later."""
    asked = at(bench, stage)
    assert not bench.switch()
    assert "devices switch" not in bench.guest.log
    further(bench)
    while not bench.entered.is_set():
        bench.guest.domain.suspended = stage == "asking"
        bench.park()
    write(bench)
    assert (bench.held, asked.answers) == (True, [])
    assert bench.switch()
    assert is_whole(bench, asked)


@pytest.mark.parametrize("stage", WAITING)
def test_switched_twice(bench: Bench, stage: str) -> None:
    asked = at(bench, stage)
    assert [bench.switch(), bench.switch()] == [True, False]
    bench.go_on.set()
    assert is_whole(bench, asked)
    assert not bench.switch()
    assert bench.guest.log == AT_REST + SWITCHED + GOES_ON


def test_one_that_is_kept_as_its_disks_are(bench: Bench) -> None:
    asked = at(bench, "writing", switch=False)
    assert not bench.switch()
    bench.go_on.set()
    assert is_whole(bench, asked)
    assert (bench.switch(), asked.figures, bench.guest.log) == (False, [], AT_REST + GOES_ON)


def test_one_that_ends_with_its_save(bench: Bench) -> None:
    asked = bench.whole()
    assert (bench.switch(), asked.figures) == (False, [])
    assert bench.held


@pytest.mark.parametrize("stage", WAITING)
def test_what_waits_for_that_is_not_whole(bench: Bench, stage: str) -> None:
    asked = at(bench, stage)
    assert not bench.finish(keep=True)
    assert not bench.finish(keep=False)
    with pytest.raises(Refusal):
        bench.release()
    with pytest.raises(Refusal, match="is being saved or moved already"):
        bench.begin(keep=True, switch=True)
    assert (bench.held, bench.back.locked, asked.answers) == (True, True, [])


# --- disks that cannot be switched


@pytest.mark.parametrize("stage", WAITING)
def test_disks_that_cannot_be_switched_leave_it_waiting(bench: Bench, stage: str) -> None:
    asked = at(bench, stage)
    bench.back.unfit = UNFIT
    for _ in range(2):
        with pytest.raises(DeviceError, match=UNFIT):
            bench.switch()
        turns(bench)
        assert (bench.held, bench.guest.log, asked.answers) == (True, AT_REST, [])
    bench.on_dom0(bench.saves.cancel)
    bench.go_on.set()
    assert bench.answered(asked) == CANCELLED
    assert (bench.goes_on(), bench.switch()) == (True, False)


@pytest.mark.parametrize("stage", WAITING)
def test_disks_that_can_be_switched_then(bench: Bench, stage: str) -> None:
    asked = at(bench, stage)
    bench.back.unfit = UNFIT
    with pytest.raises(DeviceError):
        bench.switch()
    bench.back.unfit = ""
    assert bench.switch()
    bench.go_on.set()
    assert is_whole(bench, asked)
    assert bench.goes_on()


# --- it comes to nothing


@pytest.mark.parametrize("switched", [False, True])
def test_a_file_that_cannot_be_written(bench: Bench, switched: bool) -> None:
    """It goes on with the disks that it has then."""
    bench.end = raising(FULL)
    asked = at(bench, "writing")
    assert not switched or bench.switch()
    bench.go_on.set()
    assert bench.answered(asked) == FULL
    assert (bench.goes_on(), bench.switch()) == (True, False)
    assert bench.guest.log == AT_REST + SWITCHED * switched + GOES_ON


@pytest.mark.parametrize("stage", WAITING)
@pytest.mark.parametrize("how", ["full", "cancelled", "lost"])
def test_a_file_that_does_not_come_to_the_disk(bench: Bench, stage: str, how: str) -> None:
    """Its guest does not notice."""

    def sync() -> None:
        if how == "full":
            raise SaveError(FULL)
        if how == "cancelled":
            bench.on_dom0(bench.saves.cancel)
        asked.abandoned = how == "lost"

    bench.sync_end = sync
    asked = at(bench, stage)
    assert bench.switch()
    bench.go_on.set()
    assert bench.answered(asked) == (FULL if how == "full" else CANCELLED)
    assert (bench.goes_on(), bench.guest.log) == (True, AT_REST + SWITCHED + GOES_ON)


def test_a_device_that_does_not_come_to_rest(bench: Bench) -> None:
    bench.guest.why_not = "vbd 51712: Input/output error"
    asked = at(bench, "rest")
    assert bench.answered(asked) == "the domain cannot be saved: vbd 51712: Input/output error"
    assert (bench.goes_on(), bench.switch(), asked.figures) == (True, False, [])


@pytest.mark.parametrize("what", ["tree", "state"])
def test_a_guest_that_cannot_be_saved(bench: Bench, what: str) -> None:
    """Nobody is told that its disks rest."""
    if what == "tree":
        bench.guest.nodes = TreesError("not now")
    else:
        bench.guest.state_error = "not now"
    asked = at(bench, "rest")
    assert bench.answered(asked) == "the domain cannot be saved: not now"
    assert (bench.goes_on(), bench.switch(), asked.figures) == (True, False, [])


@pytest.mark.parametrize("which", [2, 3])
def test_a_host_without_room_for_a_thread(bench: Bench, monkeypatch: pytest.MonkeyPatch, which: int) -> None:
    """For what is written last, or, when it goes on already, for bringing the file to the disk."""
    bench.go_on.set()
    with no_room_for_thread(monkeypatch, which):
        asked = at(bench, "rest")
        assert bench.switch() == (which == 3)
        answer = bench.answered(asked)
    assert answer == "the domain cannot be saved: the host has no room for another thread"
    assert (bench.goes_on(), asked.figures) == (True, [REST])


# --- nobody wants it any more


def test_cancelled_while_it_waits(bench: Bench) -> None:
    asked = at(bench, "switching")
    bench.on_dom0(bench.saves.cancel)
    assert asked.answers == [CANCELLED]
    assert bench.goes_on()
    turns(bench)
    assert (bench.switch(), bench.saves.busy) == (False, False)
    assert (asked.answers, bench.guest.log) == ([CANCELLED], AT_REST + GOES_ON)


@pytest.mark.parametrize("switched", [False, True])
def test_cancelled_while_it_is_written(bench: Bench, switched: bool) -> None:
    asked = at(bench, "writing")
    assert not switched or bench.switch()
    bench.on_dom0(bench.saves.cancel)
    assert bench.held, "its memory is being read"
    bench.go_on.set()
    assert bench.answered(asked) == CANCELLED
    assert (bench.goes_on(), bench.guest.log) == (True, AT_REST + SWITCHED * switched + GOES_ON)


def test_cancelled_and_switched_after_all(bench: Bench) -> None:
    """Its file comes to nothing, and it goes on with the disks that it has then."""
    asked = at(bench, "writing")
    bench.on_dom0(bench.saves.cancel)
    assert bench.switch()
    bench.go_on.set()
    assert bench.answered(asked) == CANCELLED
    assert (bench.goes_on(), bench.guest.log) == (True, AT_REST + SWITCHED + GOES_ON)


@pytest.mark.parametrize("stage", [*BEFORE, *WAITING])
def test_xend_is_lost(bench: Bench, stage: str) -> None:
    """Nobody else switches its disks: it goes on with what it had."""
    asked = at(bench, stage)
    asked.abandoned = True
    bench.guest.domain.suspended = stage == "asking"
    bench.park()
    further(bench)
    while not asked.answers:
        bench.park()
    assert asked.answers == [CANCELLED]
    assert bench.goes_on()
    assert (bench.switch(), "devices switch" in bench.guest.log) == (False, False)


def test_xend_is_lost_after_the_switch(bench: Bench) -> None:
    asked = at(bench, "writing")
    assert bench.switch()
    asked.abandoned = True
    bench.go_on.set()
    assert bench.answered(asked) == CANCELLED
    assert (bench.goes_on(), bench.guest.log) == (True, AT_REST + SWITCHED + GOES_ON)


@pytest.mark.parametrize("how", ["cancelled", "lost", "full"])
def test_another_one_after_it_has_come_to_nothing(bench: Bench, how: str) -> None:
    """It waits for a switch of its own."""
    bench.end = raising(FULL) if how == "full" else bench.end
    asked = at(bench, "switching")
    if how == "cancelled":
        bench.on_dom0(bench.saves.cancel)
    asked.abandoned = how == "lost"
    bench.answered(asked)
    bench.guest.log.clear()
    bench.end = lambda: None
    bench.guest.domain.parked = False
    bench.go_on.clear()
    again = at(bench, "switching")
    turns(bench)
    assert (bench.held, again.answers, again.figures) == (True, [], [REST])
    assert bench.switch()
    assert is_whole(bench, again)


def test_xend_is_lost_while_the_file_comes_to_the_disk(bench: Bench) -> None:
    """The file is closed when nobody writes it any more."""
    synced = threading.Event()

    def sync() -> None:
        assert synced.wait(60)

    bench.sync_end = sync
    asked = at(bench, "switching")
    assert bench.switch()
    asked.abandoned = True
    until = time.monotonic() + 20 * saves.LOOK_SECONDS
    while time.monotonic() < until:
        bench.turn()
    assert (bench.held, asked.answers, bench.closed) == (False, [], [])
    synced.set()
    assert bench.answered(asked) == CANCELLED
    assert (bench.goes_on(), bench.guest.log) == (True, AT_REST + SWITCHED + GOES_ON)


# --- the guest stops


@pytest.mark.parametrize(
    ("stage", "switched"), [*((stage, False) for stage in (*BEFORE, *WAITING)), ("writing", True)]
)
def test_a_machine_that_goes(bench: Bench, stage: str, switched: bool) -> None:
    """Its memory is read by nobody any more, and its disks stay where they are."""
    asked = at(bench, stage)
    assert not switched or bench.switch()
    ended = threading.Timer(0.02, lambda: further(bench))
    ended.start()
    bench.saves.settle()
    ended.join()
    assert not [thread for thread in threading.enumerate() if thread.name == "save"]
    assert (asked.answers, len(bench.closed), bench.saves.busy) == ([STOPPED], 1, False)
    assert not any(stream.watched for stream in bench.streams)
    further(bench)
    bench.park()
    turns(bench)
    assert (bench.switch(), asked.answers, len(bench.closed)) == (False, [STOPPED], 1)
    assert bench.guest.log.count("devices switch") == switched
    assert "devices go on" not in bench.guest.log


def test_a_guest_that_is_stopping_while_it_waits(bench: Bench) -> None:
    """It is held: it stops when somebody ends it, and the switch is no harm before."""
    asked = at(bench, "switching")
    bench.guest.domain.stopping = True
    bench.on_dom0(bench.saves.look)
    assert (bench.held, asked.answers) == (True, [])
    assert bench.switch()
    assert is_whole(bench, asked)


def test_nothing_stays_open(bench: Bench) -> None:
    for end in ("switched", "cancelled", "unfit", "lost"):
        asked = at(bench, "switching")
        bench.back.unfit = UNFIT if end == "unfit" else ""
        if end in ("switched", "unfit"):
            try:
                bench.switch()
            except DeviceError:
                bench.on_dom0(bench.saves.cancel)
        elif end == "cancelled":
            bench.on_dom0(bench.saves.cancel)
        asked.abandoned = end == "lost"
        bench.answered(asked)
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(asked.fd)
        bench.guest.domain.parked = False
        bench.go_on.clear()
    assert len(bench.streams) == len(bench.closed) == 4


# --- whatever is asked


ASKED = ("save", "suspended", "kept", "switch", "cancel", "lost")
STEPS = st.lists(
    st.sampled_from([*ASKED, "copied", "park", "written", "rest", "turn", "unfit", "fit", "full"]),
    max_size=25,
)


@settings(max_examples=150)
@given(STEPS, st.sampled_from(["", "", "devices", "store", "tree"]))
def test_it_goes_on_and_whoever_is_told_that_it_is_whole_has_switched(steps: list[str], stuck: str) -> None:
    """Each is answered once; and no disk is switched of a guest that is not held, which Back sees to."""
    with pytest.MonkeyPatch.context() as patch, closing(Bench(patch)) as bench:
        patch.setattr(saves, "LOOK_SECONDS", 0.001)
        bench.guest.stuck = stuck
        asked: list[Asked] = []
        to_switch: list[Asked] = []
        switches = 0

        def save(*, switch: bool, ask: bool = False) -> None:
            bench.copied.clear()
            bench.go_on.clear()
            asked.append(bench.begin(keep=True, switch=switch, ask=ask))
            if switch:
                to_switch.append(asked[-1])

        def lost() -> None:
            for each in asked:
                each.abandoned = True

        acts: dict[str, Callable[[], object]] = {
            "save": lambda: save(switch=True),
            "suspended": lambda: save(switch=True, ask=True),
            "kept": lambda: save(switch=False),
            "copied": bench.copied.set,
            "written": bench.go_on.set,
            "park": bench.park,
            "turn": lambda: turns(bench, 5),
            "switch": bench.switch,
            "cancel": lambda: bench.on_dom0(bench.saves.cancel),
            "lost": lost,
            "rest": lambda: bench.on_dom0(bench.guest.comes_to_rest),
            "unfit": lambda: setattr(bench.back, "unfit", UNFIT),
            "fit": lambda: setattr(bench.back, "unfit", ""),
            "full": lambda: setattr(bench, "end", raising(FULL)),
        }
        for step in steps:
            try:
                switches += bool(acts[step]() is True)
            except (Refusal, DeviceError):
                continue
            whole = [each for each in to_switch if each.answers and isinstance(each.answers[0], dict)]
            assert len(whole) <= switches == bench.guest.log.count("devices switch")
        bench.on_dom0(bench.saves.cancel)
        while bench.saves.busy:
            further(bench)
            bench.park()
        log = bench.guest.log
        assert (bench.guest.holders, log.count("devices go on")) == (set(), log.count("devices"))
        bench.wind_down()
        assert all(len(each.answers) == 1 for each in asked)
        assert all(each.figures in ([], [REST]) for each in to_switch)
        assert len(bench.closed) == len(asked)
