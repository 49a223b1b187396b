"""A domain that the host has no memory for is refused with the figures."""

from pathlib import Path

import pytest

from xenion.domain import admission
from xenion.domain.admission import AdmissionError, check_memory, host_memory_mib

TEXT = "MemTotal:        4096000 kB\nMemFree:  1 kB\nMemAvailable:    2048000 kB\nHugePages_Total:       0\n"


def test_reads_what_the_kernel_says() -> None:
    assert host_memory_mib(TEXT) == (4000, 2000)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text(TEXT)
    monkeypatch.setattr(admission, "MEMINFO", tmp_path / "meminfo")


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("mib", [1, 2000 - admission.HEADROOM_MIB])
def test_admits_what_fits(mib: int) -> None:
    check_memory(mib)


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("mib", [2000 - admission.HEADROOM_MIB + 1, 1 << 20])
def test_refuses_what_does_not(mib: int) -> None:
    said = rf"memory = {mib} MiB does not fit: the host has 4000 MiB of which 2000 MiB"
    with pytest.raises(AdmissionError, match=said):
        check_memory(mib)


def test_this_host_can_be_read() -> None:
    check_memory(1)
