"""libseccomp is found without other programs, and a host that has none is told of in one sentence."""

import ctypes.util
import subprocess
import sys
import textwrap

import pytest

from xenion.dom0 import seccomp

pytest.importorskip("pyseccomp", exc_type=ImportError)


def run(body: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(body)], capture_output=True, text=True, check=True, timeout=30
    ).stdout


def test_it_starts_no_other_program() -> None:
    told = run("""
        import sys
        sys.addaudithook(lambda event, args: print(event) if event in ("subprocess.Popen", "os.posix_spawn") else None)
        from xenion.dom0 import seccomp
        print(seccomp.binding().__name__)
    """)
    assert told.splitlines() == ["pyseccomp"]


def test_others_find_libraries_as_before() -> None:
    before = ctypes.util.find_library
    seccomp.binding()
    assert ctypes.util.find_library is before


def test_a_host_without_it() -> None:
    told = run("""
        import sys
        sys.modules["pyseccomp"] = None
        from xenion.dom0 import seccomp
        try:
            seccomp.binding()
        except seccomp.NotRestrictedError as error:
            print(error)
    """)
    assert told.startswith("system calls are not restricted: libseccomp cannot be used (")


def test_a_kernel_that_refuses() -> None:
    said = r"refuses the filter \(Operation not permitted\)"
    with pytest.raises(seccomp.NotRestrictedError, match=said), seccomp.refused():
        raise PermissionError(1, "Operation not permitted")


def test_calls_of_other_kernels_are_left_out() -> None:
    binding = seccomp.binding()
    rules = binding.SyscallFilter(defaction=binding.ALLOW)
    seccomp.add(rules, binding.ERRNO(1), "no_such_call")
    seccomp.add(rules, binding.ERRNO(1), "mount")
