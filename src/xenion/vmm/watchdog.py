"""A domain's two watchdogs (SCHEDOP_watchdog in sched.h): a guest that does not come back in time is shut down."""

from collections.abc import Sequence

from xenion.abi.errno import Errno
from xenion.vmm.errors import GuestError

TIMERS = 2
SECOND_NS = 1_000_000_000


class Watchdogs:
    """Deadlines in ns of system time; None: not in use."""

    def __init__(self) -> None:
        self._deadlines: list[int | None] = [None] * TIMERS

    def operate(self, number: int, timeout_s: int, now: int) -> int:
        """Number 0 asks for a new one (its number is the result); a timeout of 0 stops one. GuestError."""
        if number > TIMERS:
            raise GuestError(Errno.EINVAL)
        if number == 0:
            if None not in self._deadlines:
                raise GuestError(Errno.ENOSPC)
            number = self._deadlines.index(None) + 1
            self._deadlines[number - 1] = now + timeout_s * SECOND_NS
            return number
        if self._deadlines[number - 1] is None:
            raise GuestError(Errno.EINVAL)
        self._deadlines[number - 1] = now + timeout_s * SECOND_NS if timeout_s else None
        return 0

    def deadlines(self) -> list[int | None]:
        """Of each."""
        return list(self._deadlines)

    def set_deadlines(self, deadlines: Sequence[int | None]) -> None:
        """Of each; ValueError."""
        if len(deadlines) != TIMERS:
            raise ValueError(f"{len(deadlines)} watchdogs")
        self._deadlines = list(deadlines)

    def put_off(self, ns: int) -> None:
        """All of them, by so long: the guest could not have reset them."""
        self._deadlines = [None if deadline is None else deadline + ns for deadline in self._deadlines]

    @property
    def next_deadline(self) -> int | None:
        return min((d for d in self._deadlines if d is not None), default=None)
