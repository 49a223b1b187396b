"""What an armed process can and cannot do, tried in a process of its own."""

import signal
import subprocess
import sys
import textwrap

import pytest

from xenion.domain import sandbox

pytest.importorskip("pyseccomp", exc_type=ImportError)

ARMED = """
import ctypes, os, resource, select, socket, termios, threading, time, traceback
from xenion.domain import sandbox
libc = ctypes.CDLL(None, use_errno=True)
sandbox.limit_resources()
sandbox.arm()
"""


def run(body: str, ioctls: tuple[int, ...] = ()) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", ARMED.replace("arm()", f"arm({ioctls})") + textwrap.dedent(body)],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        env={"PYTHONPATH": ":".join(sys.path), "PATH": "/usr/bin:/bin"},
    )


ALLOWED = {
    "output": "os.write(1, b'done')",
    "threads": "t = threading.Thread(target=lambda: os.write(1, b'done')); t.start(); t.join()",
    "memory": "fd = os.memfd_create('guest'); os.ftruncate(fd, 1 << 20); os.write(1, b'done')",
    "waiting": "p = select.epoll(); fd = os.eventfd(1); p.register(fd); p.poll(); os.write(1, b'done')",
    "sleeping": "time.sleep(0.001); os.write(1, b'done')",
    "garbage": "x = [bytearray(1 << 20) for _ in range(50)]; del x; os.write(1, b'done')",
    "a traceback": "try: 1/0\nexcept ZeroDivisionError: s = traceback.format_exc(); os.write(1, b'done')",
}


@pytest.mark.parametrize("body", ALLOWED.values(), ids=ALLOWED)
def test_may(body: str) -> None:
    done = run(body)
    assert (done.returncode, done.stdout) == (0, "done"), done.stderr


REFUSED = {
    "open a file": "os.open('/etc/passwd', os.O_RDONLY)",
    "make a file": "os.open('/tmp/xenion-test-of-sandbox', os.O_CREAT | os.O_WRONLY)",
    "make a socket": "socket.socket()",
    "look around": "os.listdir('/')",
    "remove a file": "os.unlink('/tmp/nothing')",
    "drive a terminal": "termios.tcgetattr(0)",
}


@pytest.mark.parametrize("body", REFUSED.values(), ids=REFUSED)
def test_is_refused(body: str) -> None:
    done = run(f"try:\n    {body}\nexcept (PermissionError, termios.error):\n    os.write(1, b'refused')")
    assert (done.returncode, done.stdout) == (0, "refused"), done.stderr


DEADLY = {
    "start a program": "os.execv('/bin/true', ['true'])",
    "fork": "os.fork()",
    "signal others": "os.kill(os.getppid(), 0)",
    "trace": "libc.ptrace(16, os.getppid(), 0, 0)",
    "read other memory": "libc.syscall(310, os.getppid(), 0, 0, 0, 0, 0)",
    "write other memory": "libc.syscall(311, os.getpid(), 0, 0, 0, 0, 0)",
    "mount": "libc.mount(b'/', b'/', b'none', 0, None)",
    "load code into the kernel": "libc.syscall(321, 0, 0, 0)",
    "become root": "os.setuid(0)",
    "change its limits": "libc.syscall(160, 7, 0)",
    "make a namespace": "libc.unshare(0x10000000)",
    "use io_uring": "libc.syscall(425, 1, 0)",
}


@pytest.mark.parametrize("body", DEADLY.values(), ids=DEADLY)
def test_dies_of_trying_to(body: str) -> None:
    done = run(body + "\nos.write(1, b'survived')")
    assert (done.returncode, done.stdout) == (-signal.SIGSYS, ""), done.stderr


KVM_RUN, KVM_CREATE_VM = 0xAE80, 0xAE01


@pytest.mark.parametrize(("request_", "error"), [(KVM_RUN, "ENOTTY"), (0x5401, "EPERM"), (0x5421, "EFAULT")])
def test_requests_of_a_processor(request_: int, error: str) -> None:
    """ENOTTY and EFAULT are the kernel's answers for a pipe: they got through."""
    done = run(
        f"import errno; assert libc.ioctl(1, {request_}, 0) == -1; print(errno.errorcode[ctypes.get_errno()])",
        (KVM_RUN, KVM_CREATE_VM),
    )
    assert (done.returncode, done.stdout.strip()) == (0, error), done.stderr


def test_other_requests_are_deadly_then() -> None:
    done = run("libc.ioctl(1, 0xAE02, 0); os.write(1, b'survived')", (KVM_RUN,))
    assert (done.returncode, done.stdout) == (-signal.SIGSYS, ""), done.stderr


def test_threads_that_were_there_are_bound_too() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import os, threading\n"
            "from xenion.domain import sandbox\n"
            "go, gone = threading.Event(), []\n"
            "t = threading.Thread(target=lambda: (go.wait(), os.fork()))\n"
            "t.start(); sandbox.arm(); go.set(); t.join(); os.write(1, b'survived')",
        ],
        capture_output=True,
        check=False,
        timeout=30,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    assert (done.returncode, done.stdout) == (-signal.SIGSYS, b"")


def test_every_call_is_listed_once() -> None:
    names = [name for group in sandbox.KEPT.values() for name in group] + list(sandbox.REFUSED_QUIETLY)
    assert len(names) == len(set(names))
