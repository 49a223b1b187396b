"""How much one domain may write into what all share."""

import time

BURST, A_SECOND = 500.0, 5.0


class Allowance:
    """A bucket of entries that fills up again with time."""

    def __init__(self) -> None:
        self._left = BURST
        self._at = time.monotonic()
        self._left_out = 0

    def take(self) -> bool:
        """Whether one more entry may be written; if not, it is counted."""
        now = time.monotonic()
        self._left = min(self._left + (now - self._at) * A_SECOND, BURST)
        self._at = now
        if self._left < 1:
            self._left_out += 1
            return False
        self._left -= 1
        return True

    def left_out(self) -> int:
        """How many were not written since this was asked last."""
        count, self._left_out = self._left_out, 0
        return count
