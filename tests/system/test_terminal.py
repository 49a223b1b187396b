"""A person at the console: keys reach the guest only, and the terminal is always given back as it was."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.system.terminal import COLUMNS, ROWS, Terminal
from tests.system.xm import ROOT, Xm, command

if TYPE_CHECKING:
    from tests.system.conftest import GuestMaker, Kernel

Open = Callable[[Path], Terminal]
CTRL_C, CTRL_D, CTRL_Z, CTRL_BACKSLASH, ESCAPE = b"\x03", b"\x04", b"\x1a", b"\x1c", b"\x1d"


@pytest.fixture
def attend(xm: Xm) -> Iterator[Open]:
    """Opens `xm create -c FILE` on a terminal of its own."""
    opened = []

    def open_terminal(config: Path) -> Terminal:
        words = [*command(), "create", "-c", str(config)]
        opened.append(Terminal(words, xm.environment, ROOT))
        return opened[-1]

    yield open_terminal
    for terminal in opened:
        terminal.close()


@pytest.fixture
def waiting(xm: Xm, tiny_kernel: "Kernel", attend: Open) -> Terminal:
    """A terminal at a guest that has said hello and waits for ever."""
    terminal = attend(xm.config("waiting", kernel=tiny_kernel("wait", "hello\n"), memory=16))
    terminal.expect(b"hello\r?\n")
    return terminal


def test_a_shell_can_be_used(xm: Xm, guest: "GuestMaker", attend: Open) -> None:
    terminal = attend(guest("dmesg -n 1; export PS1='guest: '; setsid cttyhack sh"))
    terminal.expect(b"guest: ")
    assert terminal.is_raw()
    terminal.type(b"echo $((6*7)) answer\r")
    terminal.expect(rb"\n42 answer\r\n")
    terminal.expect(b"guest: ")
    terminal.type(b"echo on; cat\r")
    terminal.expect(b"\non\r\n")
    terminal.type(b"typed\r")
    terminal.expect(b"typed\r\ntyped\r\n")
    terminal.type(CTRL_C)
    terminal.expect(rb"\^C\r\nguest: ")
    terminal.type(b"sh -c 'trap \"echo again\" CONT; echo on; while :; do :; done'\r")
    terminal.expect(b"\non\r\n")
    terminal.type(CTRL_Z)
    terminal.expect(rb"Stopped.*\r\nguest: ")
    terminal.type(b"fg\r")
    terminal.expect(b"\nagain\r\n")  # it has the terminal, and goes on
    terminal.type(CTRL_C)
    terminal.expect(rb"\^C\r\n.*guest: ")
    terminal.type(b"exit\r")
    assert terminal.wait() == 0
    assert terminal.modes() == terminal.before
    assert terminal.size() == (ROWS, COLUMNS)
    assert xm.domains() == []


def test_keys_that_mean_signals_do_not_reach_xm(xm: Xm, waiting: Terminal) -> None:
    assert waiting.is_raw()
    waiting.type(CTRL_C + CTRL_Z + CTRL_BACKSLASH + CTRL_D)
    waiting.type(ESCAPE)
    assert waiting.wait() == 0
    xm.the_domain().signal(signal.SIGTERM)


def test_a_new_window_size_disturbs_nothing(xm: Xm, waiting: Terminal) -> None:
    waiting.resize(20, 60)
    waiting.type(ESCAPE)
    assert waiting.wait() == 0
    assert waiting.size() == (20, 60)
    xm.the_domain().signal(signal.SIGTERM)


def test_leaving_gives_the_terminal_back_and_the_domain_goes_on(xm: Xm, waiting: Terminal) -> None:
    domain = xm.the_domain()
    waiting.type(ESCAPE)
    assert waiting.wait() == 0
    assert waiting.modes() == waiting.before
    assert b"xm destroy" in waiting.seen
    assert domain.alive()
    domain.signal(signal.SIGTERM)
    assert domain.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_xm_gives_the_terminal_back(xm: Xm, waiting: Terminal, number: signal.Signals) -> None:
    domain = xm.the_domain()
    waiting.process.send_signal(number)
    assert waiting.wait() == 128 + number
    assert waiting.modes() == waiting.before
    assert b"Traceback" not in waiting.seen
    assert domain.alive()
    domain.signal(signal.SIGTERM)
    assert domain.wait()


def test_a_closed_window_ends_xm_and_not_the_domain(xm: Xm, waiting: Terminal) -> None:
    domain = xm.the_domain()
    waiting.hang_up()
    assert waiting.process.wait(40) != 0
    assert domain.alive()
    domain.signal(signal.SIGTERM)
    assert domain.wait()


def test_a_domain_that_is_killed_gives_the_terminal_back(xm: Xm, waiting: Terminal) -> None:
    xm.the_domain().signal(signal.SIGKILL)
    assert waiting.wait() == 1
    assert waiting.modes() == waiting.before
    assert b"xm: the domain's process ended unexpectedly (SIGKILL)" in waiting.seen


def test_a_refusal_gives_the_terminal_back(xm: Xm, attend: Open) -> None:
    terminal = attend(xm.config(kernel="/nowhere/vmlinuz"))
    assert terminal.wait() == 2
    assert terminal.modes() == terminal.before
    assert terminal.seen.count(b"\n") == 1
