"""The user's terminal in raw mode, always restored."""

import os
import signal
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


@contextmanager
def interrupted_by(fd: int, key: bytes) -> Iterator[None]:
    """Within it, KEY at the terminal FD interrupts as ctrl-C does, in the place of the key that quits."""
    if not os.isatty(fd):
        yield
        return
    before, mode = termios.tcgetattr(fd), termios.tcgetattr(fd)
    mode[6][termios.VQUIT] = key
    handler = signal.signal(signal.SIGQUIT, signal.default_int_handler)
    try:
        termios.tcsetattr(fd, termios.TCSANOW, mode)
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSANOW, before)
        signal.signal(signal.SIGQUIT, handler)
