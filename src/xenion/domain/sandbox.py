"""The rights a domain process keeps while its guest runs. Every system call that is allowed has its reason here.

Anything else kills the process, and with it this one domain. Calls that Python tries on the side (looking for source
lines when it formats a traceback) are answered with EPERM instead.
"""

import ctypes
import errno
import os
import resource
from collections.abc import Sequence
from typing import Any

KEPT = {
    "threads wait for each other, and a blocked vCPU for events": ("futex", "sched_yield", "futex_waitv"),
    "console, control, report and event descriptors, all opened before": (
        "read", "write", "readv", "writev", "pwrite64", "close", "lseek", "fstat", "fsync", "fcntl", "dup",
        "ftruncate", "sendto", "recvfrom", "sendmsg", "recvmsg", "shutdown",
    ),
    "disk images, opened by xend": (
        "preadv", "preadv2", "pwritev", "pwritev2", "pread64", "fdatasync", "fallocate",
    ),
    "xend and console clients connect to sockets that listen already": ("accept4", "getsockname", "getsockopt"),
    "Dom0's thread waits for them": (
        "epoll_wait", "epoll_pwait", "epoll_ctl", "epoll_create1", "poll", "ppoll", "select", "pselect6", "eventfd2",
    ),
    "the interpreter's and the engine's own memory": (
        "mmap", "munmap", "mprotect", "mremap", "madvise", "brk", "mincore",
    ),
    "a reboot builds the domain anew in this process": (
        "memfd_create", "set_robust_list", "rseq", "getpid", "gettid", "getrandom", "sched_getaffinity",
    ),
    "clocks and sleeping": (
        "clock_gettime", "clock_nanosleep", "nanosleep", "gettimeofday", "clock_getres", "restart_syscall",
    ),
    "signals that end it, and their return": (
        "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack",
    ),
    "who it is": ("getuid", "geteuid", "getgid", "getegid", "getppid"),
    "the end": ("exit", "exit_group"),
}  # fmt: skip

REFUSED_QUIETLY = (
    "open", "openat", "stat", "statx", "readlink", "readlinkat", "access", "faccessat", "faccessat2",
    "getcwd", "getdents64", "socket", "uname", "sysinfo", "prlimit64", "unlink",
)  # fmt: skip

PR_SET_NAME, PR_SET_NO_NEW_PRIVS = 15, 38
CLONE_THREAD = 0x10000
FIONBIO = 0x5421
TERMINAL_IOCTLS = (0x5401, 0x5413, 0x5451)
"""TCGETS, TIOCGWINSZ, FIOCLEX: what Python tries on any descriptor."""
AT_EMPTY_PATH = 0x1000


class SandboxError(Exception):
    """The host offers no seccomp; the message says what follows."""


def limit_resources() -> None:
    """No core of our own lands on disk. How long a file may get is not limited here: disk images are files, too."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def arm(ioctls: Sequence[int] = ()) -> None:
    """From here on only what is in KEPT, and these requests of ioctl; SandboxError when the host cannot do it. Threads
    that exist are included.
    """
    try:
        import pyseccomp as seccomp
    except (ImportError, OSError, RuntimeError) as error:
        raise SandboxError(f"system calls are not restricted: libseccomp cannot be used ({error})") from error
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        rules = seccomp.SyscallFilter(defaction=seccomp.KILL_PROCESS)
        rules.set_attr(seccomp.Attr.CTL_TSYNC, 1)
        for names in KEPT.values():
            for name in names:
                _add(seccomp, rules, seccomp.ALLOW, name)
        for name in REFUSED_QUIETLY:
            _add(seccomp, rules, seccomp.ERRNO(errno.EPERM), name)
        _add_restricted(seccomp, rules)
        _add_ioctls(seccomp, rules, ioctls)
        rules.load()
    except OSError as error:
        raise SandboxError(
            f"system calls are not restricted: the kernel refuses the filter ({error.strerror})"
        ) from error


def _add_restricted(seccomp: Any, rules: Any) -> None:
    """Calls that are kept for this process alone: threads of its own, its own memory, its own end."""
    own = seccomp.Arg(0, seccomp.EQ, os.getpid())
    thread = seccomp.Arg(0, seccomp.MASKED_EQ, CLONE_THREAD, CLONE_THREAD)
    _add(seccomp, rules, seccomp.ALLOW, "process_vm_readv", own)
    _add(seccomp, rules, seccomp.ALLOW, "tgkill", own)
    _add(seccomp, rules, seccomp.ALLOW, "clone", thread)
    _add(
        seccomp, rules, seccomp.ERRNO(errno.ENOSYS), "clone3"
    )  # its flags cannot be seen: clone is tried then
    # fstat(3) is newfstatat(FD, "", AT_EMPTY_PATH) in today's C libraries.
    by_descriptor = seccomp.Arg(3, seccomp.MASKED_EQ, AT_EMPTY_PATH, AT_EMPTY_PATH)
    _add(seccomp, rules, seccomp.ALLOW, "newfstatat", by_descriptor)
    _add(
        seccomp,
        rules,
        seccomp.ERRNO(errno.EPERM),
        "newfstatat",
        seccomp.Arg(3, seccomp.MASKED_EQ, AT_EMPTY_PATH, 0),
    )
    _add(seccomp, rules, seccomp.ALLOW, "prctl", seccomp.Arg(0, seccomp.EQ, PR_SET_NAME))
    _add(seccomp, rules, seccomp.ERRNO(errno.EPERM), "prctl", seccomp.Arg(0, seccomp.NE, PR_SET_NAME))


def _add_ioctls(seccomp: Any, rules: Any, wanted: Sequence[int]) -> None:
    """Whoever wants none of its own gets EPERM for all but one; a filter cannot say so of all but several."""
    for request in (FIONBIO, *wanted):
        _add(seccomp, rules, seccomp.ALLOW, "ioctl", seccomp.Arg(1, seccomp.EQ, request))
    quietly = [seccomp.Arg(1, seccomp.EQ, request) for request in TERMINAL_IOCTLS]
    for argument in quietly if wanted else [seccomp.Arg(1, seccomp.NE, FIONBIO)]:
        _add(seccomp, rules, seccomp.ERRNO(errno.EPERM), "ioctl", argument)


def _add(seccomp: Any, rules: Any, action: int, name: str, *arguments: Any) -> None:
    """A call that this libseccomp does not know cannot be made by anything that it filters."""
    if seccomp.resolve_syscall(seccomp.system_arch(), name) >= 0:
        rules.add_rule(action, name, *arguments)
