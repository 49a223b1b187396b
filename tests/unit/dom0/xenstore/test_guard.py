"""What the daemon can no longer do."""

import subprocess
import sys

import pytest

PROGRAM = """
import os, socket
from xenion.dom0.seccomp import NotRestrictedError
from xenion.dom0.xenstore import guard
try:
    guard.arm()
except NotRestrictedError as error:
    print(error)
    raise SystemExit(3)
def refused(what):
    try:
        what()
    except PermissionError:
        return True
    return False
print(refused(lambda: socket.socket(socket.AF_INET)), refused(lambda: os.execv("/bin/true", ["true"])),
      refused(os.fork), refused(lambda: os.kill(1, 0)), os.path.exists("/"))
"""


def test_only_what_is_listed_is_left() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    if done.returncode == 3:
        pytest.skip(done.stdout.strip())
    assert done.stdout.split() == ["True"] * 5, done.stderr
