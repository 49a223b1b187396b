"""The rights xenstored keeps while it serves. Every system call that is allowed has its reason here.

Anything else is answered with EPERM: it is a bug of ours, or somebody who is not us.
"""

import errno

from xenion.dom0 import seccomp

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


def arm() -> None:
    """From here on only what is in KEPT; NotRestrictedError when the host cannot do it."""
    binding = seccomp.binding()
    with seccomp.refused():
        rules = binding.SyscallFilter(defaction=binding.ERRNO(errno.EPERM))
        for names in KEPT.values():
            for name in names:
                seccomp.add(rules, binding.ALLOW, name)
        rules.load()
