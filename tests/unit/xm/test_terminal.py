"""A terminal comes back as it was, whatever happened."""

import os
import pty
import signal
import termios
from collections.abc import Iterator

import pytest

from xenion.xm.terminal import interrupted_by, raw_terminal


@pytest.fixture
def terminal() -> Iterator[int]:
    master, slave = pty.openpty()
    yield slave
    os.close(slave)
    os.close(master)


def test_raw_inside_as_before_outside(terminal: int) -> None:
    before = termios.tcgetattr(terminal)
    with raw_terminal(terminal) as is_terminal:
        assert is_terminal
        flags = termios.tcgetattr(terminal)[3]
        assert not flags & (termios.ICANON | termios.ECHO | termios.ISIG)
    assert termios.tcgetattr(terminal) == before


def test_as_before_after_an_error_too(terminal: int) -> None:
    before = termios.tcgetattr(terminal)
    with pytest.raises(KeyboardInterrupt), raw_terminal(terminal):
        raise KeyboardInterrupt
    assert termios.tcgetattr(terminal) == before


def test_what_is_no_terminal_is_left_alone() -> None:
    reader, writer = os.pipe()
    with raw_terminal(reader) as is_terminal:
        assert not is_terminal
    os.close(reader)
    os.close(writer)


def test_a_key_interrupts(terminal: int) -> None:
    """As the terminal does it, which is nobody's here: the signal it would send is ours to send."""
    before, handler = termios.tcgetattr(terminal), signal.getsignal(signal.SIGQUIT)
    with interrupted_by(terminal, b"x"):
        assert termios.tcgetattr(terminal)[6][termios.VQUIT] == b"x"
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGQUIT)
    assert (termios.tcgetattr(terminal), signal.getsignal(signal.SIGQUIT)) == (before, handler)
