"""The user's terminal in raw mode, always restored."""

import os
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def raw_terminal(fd: int) -> Iterator[bool]:
    """Raw mode if FD is a terminal (then true); whatever happens inside, its old mode comes back."""
    if not os.isatty(fd):
        yield False
        return
    before = termios.tcgetattr(fd)
    try:
        tty.setraw(fd, termios.TCSANOW)
        yield True
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)
        sys.stdout.flush()
