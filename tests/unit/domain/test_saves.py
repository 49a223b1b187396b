"""Saves of a guest that lives: it is held until all is over, and goes on after whatever went wrong."""

import os
import threading
from collections.abc import Iterator

import pytest

from tests.unit.domain.holding_kit import Asked
from tests.unit.domain.saves_kit import OK, Bench, bench_of
from xenion.dom0.xenstore.trees import TreesError
from xenion.domain import saves
from xenion.domain.control import Refusal
from xenion.domain.saved.format import SaveError

STOPPED = "the domain cannot be saved: its guest has stopped"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    with bench_of(monkeypatch) as made:
        yield made


# --- the plain way


def test_one_after_the_other_comes_to_rest_before_the_file_is_written(bench: Bench) -> None:
    asked = bench.begin()
    assert (bench.held, bench.guest.log) == (True, [])
    bench.on_dom0(bench.saves.look)
    assert bench.guest.log == []
    bench.park()
    assert bench.entered.wait(60)
    assert bench.guest.log == ["devices", "store", "tree", "state"]
    assert (bench.held, asked.answers) == (True, [])
    bench.go_on.set()
    assert bench.answered(asked) == OK
    assert asked.told == [(1, 2)]
    assert len(bench.closed) == 1


# --- a guest that suspends itself

ASK, NEVER_MIND = ("control/shutdown", "suspend"), ("control/shutdown", "")


def test_a_guest_that_can_is_asked_to_suspend_itself(bench: Bench) -> None:
    asked = bench.begin(ask=True)
    assert (bench.held, bench.guest.asked, bench.guest.domain.may_suspend) == (False, [ASK], True)
    bench.on_dom0(bench.saves.look)
    assert not bench.held
    bench.guest.domain.suspended = bench.guest.domain.parked = True
    bench.on_dom0(bench.saves.look)
    assert (bench.held, bench.guest.domain.suspended) == (True, False)
    bench.go_on.set()
    assert bench.answered(asked) == OK


@pytest.mark.parametrize("feature", [b"", b"0"])
def test_one_that_cannot_is_saved_as_it_stands(bench: Bench, feature: bytes) -> None:
    bench.guest.feature = feature
    bench.begin(ask=True)
    assert (bench.held, bench.guest.asked, bench.guest.domain.may_suspend) == (True, [], False)


def test_one_that_is_held_is_not_asked(bench: Bench) -> None:
    bench.guest.holders.add("xend")
    bench.begin(ask=True)
    assert bench.guest.asked == []
    bench.guest.holders.discard("xend")
    assert bench.held


def test_one_that_does_not_in_time_is_saved_as_it_stands(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saves, "SUSPENDING_SECONDS", 0.0)
    bench.guest.domain.parked = True
    bench.go_on.set()
    asked = bench.begin(ask=True)
    (remark,) = bench.answered(asked)["remarks"]
    assert "has not suspended itself" in remark
    assert bench.guest.asked == [ASK, NEVER_MIND]


def test_cancelled_while_it_is_asked(bench: Bench) -> None:
    asked = bench.begin(ask=True)
    bench.on_dom0(bench.saves.cancel)
    assert bench.answered(asked) == "the save was cancelled"
    assert bench.guest.log == []
    assert not bench.held


def test_one_that_stops_instead(bench: Bench) -> None:
    asked = bench.begin(ask=True)
    bench.guest.domain.stopping = True
    bench.on_dom0(bench.saves.look)
    assert bench.answered(asked) == STOPPED


def test_a_guest_that_is_parked_already_is_not_waited_for(bench: Bench) -> None:
    bench.guest.domain.parked = True
    bench.begin()
    assert bench.entered.wait(60)


def test_it_is_held_from_then_on_until_xend_has_finished(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saves, "LOOK_SECONDS", 0.001)
    asked = bench.whole()
    for _ in range(20):
        bench.turn()
        bench.on_dom0(bench.saves.look)
    assert (bench.held, asked.answers) == (True, [OK])
    assert bench.guest.log == ["devices", "store", "tree", "state"]


def test_finished_and_kept(bench: Bench) -> None:
    asked = bench.whole()
    assert bench.finish(keep=True)
    assert bench.goes_on()
    assert not bench.finish(keep=True)
    assert not bench.finish(keep=False)
    assert asked.answers == [OK]


def test_finished_and_over(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of it goes on any more, though xend is lost before it has ended."""
    monkeypatch.setattr(saves, "LOOK_SECONDS", 0.001)
    asked = bench.whole()
    assert bench.finish(keep=False)
    asked.abandoned = True
    for _ in range(20):
        bench.turn()
    bench.on_dom0(bench.saves.cancel)
    assert (bench.held, bench.guest.log[-1]) == (True, "state")


@pytest.mark.parametrize("stuck", ["parking", "devices", "store", "tree", "writing"])
def test_what_is_not_whole_is_not_finished(bench: Bench, stuck: str) -> None:
    bench.guest.stuck = stuck
    bench.begin()
    if stuck != "parking":
        bench.park()
    assert not bench.finish(keep=False)
    assert not bench.finish(keep=True)
    assert bench.held


@pytest.mark.parametrize("stage", ["parking", "quiet", "writing", "whole"])
def test_one_at_a_time(bench: Bench, stage: str) -> None:
    if stage == "whole":
        bench.whole()
    else:
        bench.guest.stuck = "tree" if stage == "quiet" else ""
        bench.begin()
        if stage != "parking":
            bench.park()
    with pytest.raises(Refusal, match="is being saved or moved already"):
        bench.begin()
    assert bench.held


def test_a_request_without_a_file_holds_nobody(bench: Bench) -> None:
    with pytest.raises(Refusal, match="no descriptor"):
        bench.begin(fds=0)
    assert not bench.guest.holders
    bench.whole()


def test_another_one_after_it(bench: Bench) -> None:
    bench.whole()
    bench.finish(keep=True)
    bench.guest.log.clear()
    bench.whole()
    assert bench.held
    assert len(bench.closed) == 2


# --- it comes to nothing


def test_a_guest_that_cannot_be_stopped(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saves, "PARKING_SECONDS", 0)
    asked = bench.begin()
    assert "could not be stopped" in bench.answered(asked)
    assert bench.goes_on()
    bench.park()
    assert (bench.guest.log, len(asked.answers)) == ([], 1)


@pytest.mark.parametrize("stuck", ["devices", "store", "tree"])
def test_what_does_not_come_to_rest(bench: Bench, monkeypatch: pytest.MonkeyPatch, stuck: str) -> None:
    """And comes to rest later: that is of no use any more."""
    monkeypatch.setattr(saves, "QUIET_SECONDS", 0)
    bench.guest.stuck = stuck
    asked = bench.begin()
    bench.park()
    assert "do not come to rest" in bench.answered(asked)
    assert bench.goes_on()
    log = list(bench.guest.log)
    bench.on_dom0(bench.guest.comes_to_rest)
    bench.turn()
    assert "state" not in bench.guest.log
    assert bench.guest.log[: len(log)] == log
    assert (bench.guest.holders, len(asked.answers), len(bench.closed)) == (set(), 1, 1)
    assert not bench.entered.is_set()


def test_a_rest_that_comes_too_late_is_no_rest_of_the_next_save(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.guest.stuck = "devices"
    with monkeypatch.context() as hasty:
        hasty.setattr(saves, "QUIET_SECONDS", 0)
        first = bench.begin()
        bench.park()
        bench.answered(first)
    late, bench.guest._late = bench.guest._late, lambda: None
    second = bench.begin()
    bench.on_dom0(late)
    assert not bench.entered.is_set()
    bench.on_dom0(bench.guest.comes_to_rest)
    bench.go_on.set()
    assert bench.answered(second) == OK


def test_a_device_that_fails(bench: Bench) -> None:
    bench.guest.why_not = "vbd 51712: Input/output error"
    asked = bench.begin()
    bench.park()
    assert bench.answered(asked) == "the domain cannot be saved: vbd 51712: Input/output error"
    assert bench.goes_on()


def test_trees_that_cannot_be_read(bench: Bench) -> None:
    bench.guest.nodes = TreesError("the domain has too many nodes in the store")
    asked = bench.begin()
    bench.park()
    assert bench.answered(asked) == "the domain cannot be saved: the domain has too many nodes in the store"
    assert bench.goes_on()


def test_a_guest_that_cannot_be_saved(bench: Bench) -> None:
    bench.guest.state_error = "it maps its own pages"
    asked = bench.begin()
    bench.park()
    assert bench.answered(asked) == "the domain cannot be saved: it maps its own pages"
    assert bench.goes_on()


def test_a_file_that_cannot_be_written(bench: Bench) -> None:
    def full() -> None:
        raise SaveError("there is no room")

    bench.end = full
    asked = bench.begin()
    bench.park()
    bench.go_on.set()
    assert bench.answered(asked) == "there is no room"
    assert bench.goes_on()


def test_a_bug_of_ours(bench: Bench, capfd: pytest.CaptureFixture[str]) -> None:
    bench.end = lambda: [][0]
    asked = bench.begin()
    bench.park()
    bench.go_on.set()
    assert "process.log" in bench.answered(asked)
    assert bench.goes_on()
    assert "IndexError" in capfd.readouterr().err


def test_a_host_without_room_for_a_thread(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as host:
        host.setattr(threading.Thread, "start", full)
        asked = bench.begin()
        bench.park()
    assert "no room for another thread" in bench.answered(asked)
    assert bench.goes_on()


@pytest.mark.parametrize("why_not", ["vbd 1: it is broken", ""])
def test_another_one_may_follow(bench: Bench, why_not: str) -> None:
    bench.guest.why_not = why_not
    bench.guest.state_error = "" if why_not else "not now"
    asked = bench.begin()
    bench.park()
    assert "the domain cannot be saved" in bench.answered(asked)
    bench.guest.why_not = bench.guest.state_error = ""
    bench.whole()


# --- nobody wants it any more


@pytest.mark.parametrize("stuck", ["parking", "devices", "store", "tree"])
def test_cancelled_before_it_is_written(bench: Bench, stuck: str) -> None:
    bench.guest.stuck = stuck
    bench.go_on.set()
    asked = bench.begin()
    if stuck != "parking":
        bench.park()
    bench.on_dom0(bench.saves.cancel)
    if not asked.answers:  # it may wait for what is under way
        if stuck == "parking":
            bench.park()
        else:
            bench.on_dom0(bench.guest.comes_to_rest)
    assert "cancelled" in bench.answered(asked)
    assert bench.goes_on()


def test_cancelled_while_it_is_written(bench: Bench) -> None:
    asked = bench.begin()
    bench.park()
    assert bench.entered.wait(60)
    bench.on_dom0(bench.saves.cancel)
    assert bench.held, "its memory is being read"
    bench.go_on.set()
    assert bench.answered(asked) == "the save was cancelled"
    assert bench.goes_on()


def test_cancelled_after_the_last_look_at_that(bench: Bench) -> None:
    bench.end = lambda: bench.on_dom0(bench.saves.cancel)
    asked = bench.begin()
    bench.park()
    bench.go_on.set()
    assert bench.answered(asked) == "the save was cancelled"
    assert bench.goes_on()


def test_cancelled_when_the_file_is_whole(bench: Bench) -> None:
    """It is answered already."""
    asked = bench.whole()
    bench.on_dom0(bench.saves.cancel)
    assert bench.goes_on()
    bench.on_dom0(bench.saves.cancel)
    assert not bench.finish(keep=False)
    assert asked.answers == [OK]
    assert bench.goes_on()


def test_to_cancel_nothing_is_no_harm(bench: Bench) -> None:
    bench.on_dom0(bench.saves.cancel)
    bench.whole()


def test_xend_is_lost_before_the_file_is_whole(bench: Bench) -> None:
    asked = bench.begin()
    bench.park()
    assert bench.entered.wait(60)
    asked.abandoned = True
    bench.go_on.set()
    bench.answered(asked)
    assert bench.goes_on()


def test_xend_is_lost_after_the_last_look_at_that(bench: Bench) -> None:
    asked = bench.begin()
    bench.end = lambda: setattr(asked, "abandoned", True)
    bench.park()
    bench.go_on.set()
    assert bench.answered(asked) == "the save was cancelled"
    assert bench.goes_on()


def test_xend_is_lost_when_the_file_is_whole(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saves, "LOOK_SECONDS", 0.001)
    asked = bench.whole()
    assert bench.held
    asked.abandoned = True
    while bench.guest.holders:
        bench.turn()
    assert bench.goes_on()
    assert not bench.finish(keep=False)
    assert asked.answers == [OK]
    bench.guest.log.clear()
    bench.whole()


def test_xend_is_lost_after_it_has_finished(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes on is not let go of once more."""
    monkeypatch.setattr(saves, "LOOK_SECONDS", 0.001)
    asked = bench.whole()
    bench.finish(keep=True)
    asked.abandoned = True
    for _ in range(20):
        bench.turn()
    assert bench.goes_on()


# --- the machine is about to go


def test_settling_ends_what_is_being_written(bench: Bench) -> None:
    asked = bench.begin()
    bench.park()
    assert bench.entered.wait(60)
    bench.go_on.set()
    bench.saves.settle()
    assert asked.answers == [STOPPED]
    assert not [thread for thread in threading.enumerate() if thread.name == "save"]


def test_settling_when_there_is_nothing(bench: Bench) -> None:
    bench.saves.settle()


def test_settling_when_dom0s_thread_is_dead(bench: Bench) -> None:
    bench.begin()
    bench.park()
    assert bench.entered.wait(60)
    bench.loop.stop()
    while bench.loop.running:
        bench.loop.call_and_wait(lambda: None)
    bench.go_on.set()
    bench.saves.settle()
    assert len(bench.closed) == 1
    assert not [thread for thread in threading.enumerate() if thread.name == "save"]


def settled(bench: Bench, stuck: str) -> Asked:
    """As a guest that ends while it is being saved has it: its machine is closed afterwards."""
    bench.guest.stuck = stuck
    bench.go_on.set()
    asked = bench.begin()
    if stuck != "parking":
        bench.park()
    bench.saves.settle()
    return asked


@pytest.mark.parametrize("stuck", ["parking", "devices", "store", "tree"])
def test_after_settling_no_machine_is_touched(bench: Bench, stuck: str) -> None:
    asked = settled(bench, stuck)
    if stuck == "parking":
        bench.park()
    else:
        bench.on_dom0(bench.guest.comes_to_rest)
    bench.turn()
    assert "state" not in bench.guest.log
    assert not bench.entered.is_set()
    if not bench.closed:
        os.close(asked.fd)


@pytest.mark.parametrize("stuck", ["parking", "devices", "store", "tree"])
def test_what_is_settled_is_answered_and_closed(bench: Bench, stuck: str) -> None:
    asked = settled(bench, stuck)
    bench.turn()
    if not bench.closed:
        os.close(asked.fd)
    assert (len(asked.answers), len(bench.closed)) == (1, 1)


# --- a guest that is kept


def kept(bench: Bench) -> Asked:
    """A save whose last pages are being written."""
    bench.copied.set()
    asked = bench.begin(keep=True)
    while bench.guest.holders == set():
        bench.turn()
    bench.park()
    assert bench.entered.wait(60)
    return asked


GOES_ON = ["store goes on", "devices go on"]


def test_it_goes_on_before_the_file_is_on_the_disk(bench: Bench) -> None:
    syncing, synced = threading.Event(), threading.Event()

    def sync() -> None:
        syncing.set()
        assert synced.wait(60)

    bench.sync_end = sync
    asked = kept(bench)
    assert bench.streams[0].watched
    bench.go_on.set()
    assert syncing.wait(60)
    bench.turn()
    assert (bench.held, bench.guest.log[-2:], asked.answers) == (False, GOES_ON, [])
    assert not bench.streams[0].watched
    synced.set()
    answer = bench.answered(asked)
    assert answer == {**OK, "held_s": answer["held_s"]}
    assert 0 < answer["held_s"] < 60
    assert (bench.finish(keep=True), len(bench.closed)) == (False, 1)
    assert bench.guest.log.count("devices go on") == 1
    bench.guest.domain.parked = False
    again = kept(bench)
    assert bench.answered(again)["remarks"] == []


@pytest.mark.parametrize("how", ["full", "cancelled", "lost"])
def test_a_file_that_does_not_come_to_the_disk(bench: Bench, how: str) -> None:
    """Its guest does not notice."""

    def sync() -> None:
        if how == "full":
            raise SaveError("no room")
        if how == "cancelled":
            bench.saves.cancel()
        asked.abandoned = how == "lost"

    bench.sync_end = sync
    asked = kept(bench)
    bench.go_on.set()
    assert bench.answered(asked) == ("no room" if how == "full" else "the save was cancelled")
    assert (bench.held, bench.guest.log.count("devices go on")) == (False, 1)
    assert len(bench.closed) == 1


def test_a_kept_guest_that_stops_meanwhile(bench: Bench) -> None:
    bench.sync_end = bench.saves._forget
    asked = kept(bench)
    bench.go_on.set()
    assert "its guest has stopped" in bench.answered(asked)
    assert len(bench.closed) == 1
