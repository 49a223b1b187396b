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

from xenion.dom0 import seccomp

KEPT = {
    "threads wait for each other, and a blocked vCPU for events": ("futex", "sched_yield", "futex_waitv"),
    "console, control, report and event descriptors, all opened before": (
        "read", "write", "readv", "writev", "pwrite64", "close", "lseek", "fstat", "fsync", "fcntl", "dup",
        "ftruncate", "sendto", "recvfrom", "sendmsg", "recvmsg", "shutdown",
    ),
    "disk images, opened by xend": (
        "preadv", "preadv2", "pwritev", "pwritev2", "pread64", "fdatasync", "fallocate", "fadvise64",
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


def limit_resources() -> None:
    """No core of our own lands on disk. How long a file may get is not limited here: disk images are files, too."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def arm(ioctls: Sequence[int] = ()) -> None:
    """From here on only what is in KEPT, and these requests of ioctl; NotRestrictedError when the host cannot do it.
    Threads that exist are included.
    """
    binding = seccomp.binding()
    with seccomp.refused():
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        rules = binding.SyscallFilter(defaction=binding.KILL_PROCESS)
        rules.set_attr(binding.Attr.CTL_TSYNC, 1)
        for names in KEPT.values():
            for name in names:
                seccomp.add(rules, binding.ALLOW, name)
        for name in REFUSED_QUIETLY:
            seccomp.add(rules, binding.ERRNO(errno.EPERM), name)
        _add_restricted(binding, rules)
        _add_ioctls(binding, rules, ioctls)
        rules.load()


def _add_restricted(binding: Any, rules: Any) -> None:
    """Calls that are kept for this process alone: threads of its own, its own memory, its own end."""
    own = binding.Arg(0, binding.EQ, os.getpid())
    thread = binding.Arg(0, binding.MASKED_EQ, CLONE_THREAD, CLONE_THREAD)
    seccomp.add(rules, binding.ALLOW, "process_vm_readv", own)
    seccomp.add(rules, binding.ALLOW, "tgkill", own)
    seccomp.add(rules, binding.ALLOW, "clone", thread)
    # Its flags cannot be seen: clone is tried then.
    seccomp.add(rules, binding.ERRNO(errno.ENOSYS), "clone3")
    # fstat(3) is newfstatat(FD, "", AT_EMPTY_PATH) in today's C libraries.
    by_descriptor = binding.Arg(3, binding.MASKED_EQ, AT_EMPTY_PATH, AT_EMPTY_PATH)
    seccomp.add(rules, binding.ALLOW, "newfstatat", by_descriptor)
    seccomp.add(
        rules,
        binding.ERRNO(errno.EPERM),
        "newfstatat",
        binding.Arg(3, binding.MASKED_EQ, AT_EMPTY_PATH, 0),
    )
    seccomp.add(rules, binding.ALLOW, "prctl", binding.Arg(0, binding.EQ, PR_SET_NAME))
    seccomp.add(rules, binding.ERRNO(errno.EPERM), "prctl", binding.Arg(0, binding.NE, PR_SET_NAME))


def _add_ioctls(binding: Any, rules: Any, wanted: Sequence[int]) -> None:
    """Whoever wants none of its own gets EPERM for all but one; a filter cannot say so of all but several."""
    for request in (FIONBIO, *wanted):
        seccomp.add(rules, binding.ALLOW, "ioctl", binding.Arg(1, binding.EQ, request))
    quietly = [binding.Arg(1, binding.EQ, request) for request in TERMINAL_IOCTLS]
    for argument in quietly if wanted else [binding.Arg(1, binding.NE, FIONBIO)]:
        seccomp.add(rules, binding.ERRNO(errno.EPERM), "ioctl", argument)
