"""What the processes that serve guests share when they give up system calls: libseccomp's binding, and one error."""

import ctypes.util
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

_LIBRARIES = {"c": "libc.so.6", "seccomp": "libseccomp.so.2"}


class NotRestrictedError(Exception):
    """The host offers no seccomp; the message says what follows."""


def _name_of(name: str) -> str | None:
    return _LIBRARIES.get(name)


@cache
def binding() -> Any:
    """pyseccomp, without the programs (ldconfig, gcc) that it would have look for its libraries. NotRestrictedError."""
    finder = ctypes.util.find_library
    ctypes.util.find_library = _name_of
    try:
        import pyseccomp
    except (ImportError, OSError, RuntimeError) as error:
        raise NotRestrictedError(
            f"system calls are not restricted: libseccomp cannot be used ({error})"
        ) from error
    finally:
        ctypes.util.find_library = finder
    return pyseccomp


@contextmanager
def refused() -> Iterator[None]:
    """A kernel that does not take the filter: NotRestrictedError."""
    try:
        yield
    except OSError as error:
        raise NotRestrictedError(
            f"system calls are not restricted: the kernel refuses the filter ({error.strerror})"
        ) from error


def add(rules: Any, action: int, name: str, *arguments: Any) -> None:
    """A call that this libseccomp does not know cannot be made by anything that it filters."""
    seccomp = binding()
    if seccomp.resolve_syscall(seccomp.system_arch(), name) >= 0:
        rules.add_rule(action, name, *arguments)
