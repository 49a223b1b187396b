"""A cap in simulated time: the guest uses CPU exactly while it is busy and not held."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenion.dom0.loop import Loop, Timer
from xenion.domain.cap import PERIOD_NS, SOONEST_NS, Cap

SECOND_NS = 1_000_000_000


class Simulation(Loop):
    """The loop, the clocks and a guest that keeps `cpus` of the host's CPUs busy."""

    def __init__(self, cpus: int = 1) -> None:
        self.now, self.used = 17, 5
        self.cpus = cpus
        self.held, self.busy = False, True
        self.timers: list[tuple[int, Timer]] = []
        self.cap = Cap(self, self.hold, self.let_go, lambda: self.now, lambda: self.used)

    def hold(self) -> None:
        self.held = True

    def let_go(self) -> None:
        self.held = False

    def later(self, seconds: float, action: Callable[[], None]) -> Timer:
        assert seconds > 0
        timer = Timer(self, action)
        self.timers = [*self.waiting, (self.now + round(seconds * SECOND_NS), timer)]
        return timer

    def cancelled(self) -> None:
        pass

    @property
    def waiting(self) -> list[tuple[int, Timer]]:
        return [(at, timer) for at, timer in self.timers if timer.action is not None]

    def pass_time(self, nanoseconds: int) -> int:
        """What the guest has used in this time."""
        end, before = self.now + nanoseconds, self.used
        while due := [entry for entry in self.waiting if entry[0] <= end]:
            at, timer = min(due, key=lambda entry: entry[0])
            self._advance(at)
            action, timer.action = timer.action, None
            assert action is not None
            action()
        self._advance(end)
        return self.used - before

    def _advance(self, to: int) -> None:
        if self.busy and not self.held:
            self.used += (to - self.now) * self.cpus
        self.now = to


@pytest.mark.parametrize(("percent", "cpus"), [(1, 1), (10, 1), (25, 1), (50, 1), (99, 1), (25, 4), (150, 2)])
def test_a_busy_guest_gets_its_share_exactly(percent: int, cpus: int) -> None:
    simulation = Simulation(cpus)
    simulation.cap.set(percent)
    used = simulation.pass_time(10 * SECOND_NS)
    assert used == pytest.approx(10 * SECOND_NS * percent / 100, rel=0.01)


@given(st.integers(1, 100))
def test_any_cap_holds_within_a_period_and_a_look(percent: int) -> None:
    simulation = Simulation()
    simulation.cap.set(percent)
    used = simulation.pass_time(100 * PERIOD_NS)
    share = PERIOD_NS * percent // 100
    assert 99 * share <= used <= 101 * share + SOONEST_NS


def test_a_cap_that_is_more_than_the_guest_wants_never_holds_it() -> None:
    simulation = Simulation()
    simulation.cap.set(200)
    assert simulation.pass_time(SECOND_NS) == SECOND_NS


@pytest.mark.parametrize("percent", [10, 25, 50])
@pytest.mark.parametrize("idle_ns", [PERIOD_NS, 5 * SECOND_NS, 3600 * SECOND_NS // 100])
def test_what_an_idle_guest_has_not_used_is_forgotten(percent: int, idle_ns: int) -> None:
    simulation = Simulation()
    simulation.cap.set(percent)
    simulation.busy = False
    assert simulation.pass_time(idle_ns) == 0
    simulation.busy = True
    used = simulation.pass_time(30 * PERIOD_NS)
    share = PERIOD_NS * percent // 100
    assert 30 * share - SOONEST_NS <= used <= 32 * share + SOONEST_NS


def test_a_hold_that_comes_too_late_is_taken_from_the_next_periods() -> None:
    simulation = Simulation()
    simulation.cap.set(10)
    simulation.used += SECOND_NS // 10
    later = simulation.pass_time(2 * SECOND_NS)
    assert later == pytest.approx(SECOND_NS // 10, rel=0.05)


def test_0_lets_go_and_sets_no_timer() -> None:
    simulation = Simulation()
    simulation.cap.set(0)
    assert (simulation.held, simulation.timers) == (False, [])
    simulation.cap.set(10)
    simulation.pass_time(PERIOD_NS // 2)
    assert simulation.held
    simulation.cap.set(0)
    assert (simulation.held, simulation.waiting) == (False, [])
    assert simulation.pass_time(SECOND_NS) == SECOND_NS


def test_another_cap_replaces_the_one_before() -> None:
    simulation = Simulation()
    simulation.cap.set(10)
    simulation.pass_time(SECOND_NS)
    simulation.cap.set(50)
    assert len(simulation.waiting) == 1
    assert simulation.pass_time(10 * SECOND_NS) == pytest.approx(5 * SECOND_NS, rel=0.01)


def test_a_stopped_one_holds_nobody() -> None:
    simulation = Simulation()
    simulation.cap.stop()
    simulation.cap.set(10)
    simulation.pass_time(PERIOD_NS // 2)
    assert simulation.held
    simulation.cap.stop()
    assert (simulation.held, simulation.waiting) == (False, [])
    simulation.cap.stop()
    assert simulation.pass_time(SECOND_NS) == SECOND_NS
