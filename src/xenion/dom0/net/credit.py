"""How fast a vif's guest may send: so many bytes a window, as xen-netback counts them."""

MICROSECONDS = 1_000_000
BURST_LEAST = 128 * 1024
"""A frame of 64 KiB must be able to pass however small the rate is."""


class Credit:
    """`bytes_per_second` 0: no limit. Times are seconds of any clock that never steps back."""

    def __init__(self, bytes_per_second: int, window_us: int, now: float) -> None:
        self._start = now
        self._left, self.unlimited = 0, True
        self.set(bytes_per_second, window_us)

    def set(self, bytes_per_second: int, window_us: int) -> None:
        """Another rate, from now on."""
        before, self.unlimited = self.unlimited, not bytes_per_second
        self._window = max(window_us, 1) / MICROSECONDS
        self._window_us = max(window_us, 1)
        self._each = max(bytes_per_second * self._window_us // MICROSECONDS, 1)
        self._left = self._each if before else min(self._left, self._each)

    @property
    def node(self) -> str:
        """As libxl writes it to `rate`: bytes a window, and the window in microseconds; empty without a limit."""
        return "" if self.unlimited else f"{self._each},{self._window_us}"

    def take(self, size: int, now: float) -> float:
        """0 when `size` bytes may go now, and they count as gone; otherwise in how many seconds to ask again."""
        if self.unlimited:
            return 0.0
        if size > self._left:
            self._refill(now)
        if size > self._left:
            return max(self._start + self._window - now, 0.0) or self._window
        self._left -= size
        return 0.0

    def _refill(self, now: float) -> None:
        windows = int((now - self._start) / self._window + 1e-6)
        if windows > 0:
            self._start += windows * self._window
            self._left = min(self._left + windows * self._each, max(BURST_LEAST, self._each))
