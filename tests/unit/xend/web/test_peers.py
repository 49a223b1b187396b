import os
import socket
import subprocess
import sys

import pytest

from xenion.xend.web.peers import Credentials, credentials_of


def test_the_other_end_of_a_socket() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        found = credentials_of(ours)
    assert found == Credentials(os.getpid(), os.getuid())
    assert found.welcome
    assert f" pid {os.getpid()} (" in found.peer().who


@pytest.mark.parametrize(("uid", "welcome"), [(0, True), (os.getuid(), True), (os.getuid() + 1, False)])
def test_who_is_welcome(uid: int, welcome: bool) -> None:
    assert Credentials(1, uid).welcome == welcome


def test_an_unknown_user_and_a_process_that_is_gone() -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    assert Credentials(gone.pid, 4_000_000).peer().who == f"uid 4000000 pid {gone.pid} (gone)"


def test_a_name_that_would_break_the_log() -> None:
    """A process may name itself as it likes."""
    program = (
        "import pathlib, sys; pathlib.Path('/proc/self/comm').write_bytes(b'a\\n(b)\\xff\\x1b');"
        "print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        who = Credentials(child.pid, os.getuid()).peer().who
        child.communicate()
    assert who.endswith(f"pid {child.pid} (a??b?\ufffd?)")
    assert "\n" not in who
