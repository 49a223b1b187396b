"""The rights xenstored keeps while it serves. Every system call that is allowed has its reason here.

Anything else is answered with EPERM: it is a bug of ours, or somebody who is not us.
"""

import errno
from typing import Any

KEPT = {
    "clients' sockets and xend's, and who is at their other end": (
        "accept4", "recvfrom", "recvmsg", "sendto", "sendmsg", "shutdown", "getsockopt", "getsockname", "fcntl",
        "ioctl", "listen",
    ),
    "waiting for them, and for its own timers": (
        "epoll_wait", "epoll_pwait", "epoll_ctl", "clock_gettime", "restart_syscall",
    ),
    "the state file, and the next one that takes its place": (
        "openat", "write", "writev", "ftruncate", "rename", "renameat", "renameat2", "unlink", "unlinkat", "close",
        "read", "lseek", "fstat", "newfstatat", "stat",
    ),
    "the interpreter's memory and locks": (
        "mmap", "munmap", "mprotect", "mremap", "madvise", "brk", "futex", "getrandom",
    ),
    "signals that end it, and the end": (
        "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "getpid", "gettid", "exit", "exit_group",
    ),
}  # fmt: skip


class GuardError(Exception):
    """The host offers no seccomp; the message says what follows."""


def arm() -> None:
    """From here on only what is in KEPT; GuardError when the host cannot do it."""
    try:
        import pyseccomp as seccomp
    except (ImportError, OSError, RuntimeError) as error:
        raise GuardError(f"system calls are not restricted: libseccomp cannot be used ({error})") from error
    try:
        rules = seccomp.SyscallFilter(defaction=seccomp.ERRNO(errno.EPERM))
        for names in KEPT.values():
            for name in names:
                _allow(seccomp, rules, name)
        rules.load()
    except OSError as error:
        raise GuardError(
            f"system calls are not restricted: the kernel refuses the filter ({error.strerror})"
        ) from error


def _allow(seccomp: Any, rules: Any, name: str) -> None:
    """A call that this libseccomp does not know cannot be made by anything that it filters."""
    if seccomp.resolve_syscall(seccomp.system_arch(), name) >= 0:
        rules.add_rule(seccomp.ALLOW, name)
