"""Writes that a server has acknowledged and may still lose, because nobody has flushed them yet."""

from collections import deque


class Unflushed:
    """In the order of their acknowledgement. A flush covers all that were added before it was asked for."""

    def __init__(self) -> None:
        self._writes: deque[tuple[int, int, bytes]] = deque()
        self._next = 0
        self.bytes = 0

    def add(self, offset: int, data: bytes) -> None:
        self._writes.append((self._next, offset, data))
        self._next += 1
        self.bytes += len(data)

    def mark(self) -> int:
        """For `drop`: all that is there now."""
        return self._next

    def drop(self, mark: int) -> None:
        """What was there at `mark` is on stable storage."""
        while self._writes and self._writes[0][0] < mark:
            self.bytes -= len(self._writes.popleft()[2])

    def writes(self) -> list[tuple[int, bytes]]:
        """Offset and data."""
        return [(offset, data) for _, offset, data in self._writes]
