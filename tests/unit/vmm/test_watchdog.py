"""The guest's two watchdogs."""

import pytest

from xenion.abi.errno import Errno
from xenion.vmm.errors import GuestError
from xenion.vmm.watchdog import Watchdogs


def test_two_of_them() -> None:
    dogs = Watchdogs()
    assert dogs.next_deadline is None
    assert [dogs.operate(0, 10, 0), dogs.operate(0, 5, 0)] == [1, 2]
    assert dogs.next_deadline == 5 * 10**9
    with pytest.raises(GuestError) as refused:
        dogs.operate(0, 1, 0)
    assert refused.value.errno == Errno.ENOSPC
    assert dogs.operate(2, 0, 0) == 0
    assert dogs.next_deadline == 10 * 10**9
    assert dogs.operate(0, 1, 0) == 2


@pytest.mark.parametrize("number", [1, 2, 3, 2**32 - 1])
def test_those_that_do_not_run(number: int) -> None:
    with pytest.raises(GuestError) as refused:
        Watchdogs().operate(number, 1, 0)
    assert refused.value.errno == Errno.EINVAL


def test_deadlines_are_taken_and_set() -> None:
    dogs, others = Watchdogs(), Watchdogs()
    dogs.operate(0, 10, 0)
    dogs.operate(0, 5, 0)
    dogs.operate(1, 0, 0)
    assert dogs.deadlines() == [None, 5 * 10**9]
    others.set_deadlines(dogs.deadlines())
    assert (others.deadlines(), others.next_deadline) == ([None, 5 * 10**9], 5 * 10**9)
    assert others.operate(2, 7, 10**9) == 0
    assert others.deadlines() == [None, 8 * 10**9]
    assert dogs.deadlines() == [None, 5 * 10**9], "they are copies"
    with pytest.raises(GuestError):
        others.operate(1, 1, 0)


@pytest.mark.parametrize("deadlines", [[], [None], [1, 2, 3]])
def test_two_deadlines_and_no_other_number(deadlines: list[int | None]) -> None:
    dogs = Watchdogs()
    with pytest.raises(ValueError, match="watchdogs"):
        dogs.set_deadlines(deadlines)
    assert dogs.deadlines() == [None, None]


def test_put_off() -> None:
    dogs = Watchdogs()
    dogs.operate(0, 5, now=0)
    dogs.put_off(7)
    assert dogs.deadlines() == [5 * 10**9 + 7, None]
