"""The host's memory and processors, and whether a domain fits."""

import os
import time
from pathlib import Path

import pytest

from tests.unit.xend.kit import config
from xenion.api.errors import ApiError
from xenion.xend import host


def meminfo(monkeypatch: pytest.MonkeyPatch, at: Path, total: int, available: int) -> None:
    text = f"MemTotal: {total * 1024} kB\nMemFree: 1 kB\nMemAvailable:   {available * 1024 + 7} kB\n"
    (at / "meminfo").write_text(text)
    monkeypatch.setattr(host, "MEMINFO", at / "meminfo")


def test_memory_as_the_kernel_tells_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meminfo(monkeypatch, tmp_path, 1000, 600)
    assert host.memory() == host.Memory(1000, 600)
    monkeypatch.undo()
    assert 0 < host.memory().available <= host.memory().total


def test_what_was_promised_and_not_yet_taken_is_not_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meminfo(monkeypatch, tmp_path, 1000, 600)
    each = host.HEADROOM_MIB
    assert host.free_mib([]) == 600 - each
    gone = 2**22 + 1
    assert host.free_mib([(100, gone), (50, None)]) == 600 - 100 - 50 - 3 * each
    mine = host.resident_mib(os.getpid())
    assert mine > 0
    assert host.free_mib([(mine + 10, os.getpid())]) == pytest.approx(600 - 10 - 2 * each, abs=8)
    assert host.free_mib([(0, os.getpid())]) <= 600 - each, (
        "one that takes more than was promised gives nothing"
    )
    assert host.free_mib([(5000, None)]) == 0


def test_refused_with_the_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meminfo(monkeypatch, tmp_path, 1000, 600)
    host.admit(config(tmp_path, memory_mib=536), [])
    with pytest.raises(ApiError) as caught:
        host.admit(config(tmp_path, memory_mib=537), [])
    assert caught.value.code == "does-not-fit"
    for figure in ("memory = 537 MiB", "1000 MiB", "536 MiB", "64 MiB", "lower memory"):
        assert figure in caught.value.message


def test_what_it_may_come_to_have_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meminfo(monkeypatch, tmp_path, 1000, 600)
    larger = config(tmp_path, memory_mib=100, maxmem_mib=537)
    with pytest.raises(ApiError, match=r"maxmem = 537 MiB does not fit.*lower maxmem"):
        host.admit(larger, [])
    host.admit(larger, [], has=537)


def test_cpus_that_the_host_has_not(tmp_path: Path) -> None:
    with pytest.raises(ApiError, match="none of the host's CPUs") as caught:
        host.admit(config(tmp_path, cpus="4000"), [])
    assert caught.value.code == "bad-request"


def test_time_of_the_processors() -> None:
    each = [host.cpu_busy_seconds(number) for number in range(os.cpu_count() or 1)]
    assert 0 < sum(each) <= host.busy_seconds() + 1
    assert host.cpu_busy_seconds(9999) == 0
    assert 0 < host.boot_time() < host.now()
    model, mhz = host.cpu()
    assert model
    assert mhz is None or mhz > 0


def test_a_thread(tmp_path: Path) -> None:
    before = host.main_thread(os.getpid())
    end = time.thread_time() + 0.02
    while time.thread_time() < end:
        pass
    after = host.main_thread(os.getpid())
    assert after.running
    assert after.cpu in range(os.cpu_count() or 1)
    assert before.cpu_seconds < after.cpu_seconds < time.process_time() + 1
    assert host.main_thread(None) == host.ThreadTimes(0.0, False, None)
    assert host.resident_mib(None) == 0
