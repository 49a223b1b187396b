"""The ways to know what has been written, for tests of each."""

from pathlib import Path

import pytest

from xenion.vmm.written import SWITCH, WriteWatch

METHODS = ("write protection", "digests")


def open_watch(method: str, monkeypatch: pytest.MonkeyPatch) -> WriteWatch:
    if method == "digests":
        monkeypatch.setenv(SWITCH, "digests")
    else:
        monkeypatch.delenv(SWITCH, raising=False)
    opened = WriteWatch.open()
    if opened.method != method:
        opened.close()
        pytest.skip("no write protection: it takes Linux 6.7 with userfaultfd and PAGEMAP_SCAN")
    return opened


def is_protected() -> bool:
    """Is any memory of this process, by proc_pid_smaps(5)?"""
    lines = Path("/proc/self/smaps").read_text().splitlines()
    return any("uw" in line.split() for line in lines if line.startswith("VmFlags:"))
