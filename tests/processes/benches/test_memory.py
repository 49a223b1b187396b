"""The reading of smaps, on a made one and on this very process."""

import mmap
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benches import memory
from benches.assets import Assets
from benches.peers import Peer
from benches.record import Session

SMAPS = """\
55d0c0a00000-55d0c0b00000 r-xp 00000000 fe:00 1234                       /usr/bin/python3.11
Size:               1024 kB
Rss:                 900 kB
Pss:                 800 kB
Pss_Dirty:           100 kB
7f0000000000-7f0020000000 rw-s 00000000 00:01 77                         /memfd:guest (deleted)
Size:             524288 kB
Pss:              200000 kB
7f0030000000-7f0030001000 rw-s 00000000 00:01 77                         /memfd:guest (deleted)
Size:                  4 kB
Pss:                   2 kB
7f0040000000-7f0040100000 rw-s 00000000 00:01 78                         /memfd:other (deleted)
Size:               1024 kB
Pss:                1000 kB
7f0050000000-7f0050100000 rw-p 00000000 00:00 0 
Size:               1024 kB
Pss:                 512 kB
VmFlags: rd wr mr mw me ac sd
"""  # noqa: W291


def test_counts_every_mapping_of_the_largest_memfd_only() -> None:
    assert memory.guest_pss(SMAPS, 512) == 200002


def test_a_process_without_a_memfd_that_large_is_no_domain() -> None:
    assert memory.guest_pss(SMAPS, 1024) is None
    assert memory.guest_pss("", 1) is None


@given(st.text())
def test_any_text_is_survived(text: str) -> None:
    memory.guest_pss(text, 1)


@pytest.fixture
def guest_memory() -> Iterator[mmap.mmap]:
    fd = os.memfd_create("guest")
    os.ftruncate(fd, 64 << 20)
    with mmap.mmap(fd, 64 << 20) as mapped:
        os.close(fd)
        yield mapped


def own_mib() -> float:
    return memory.read_domain([os.getpid()], 64)


def test_guest_pages_are_not_counted(guest_memory: mmap.mmap) -> None:
    before = own_mib()
    guest_memory[: 32 << 20] = bytes(32 << 20)
    after = own_mib()
    assert before > 1
    assert abs(after - before) < 16


def test_own_pages_are_counted(guest_memory: mmap.mmap) -> None:
    assert len(guest_memory) == 64 << 20
    before = own_mib()
    with mmap.mmap(-1, 32 << 20) as own:
        own[:] = b"x" * len(own)
        after = own_mib()
    assert after - before > 24


STAND_IN = """
import mmap, os, time
fd = os.memfd_create("guest")
os.ftruncate(fd, 512 << 20)
guest = mmap.mmap(fd, 512 << 20)
guest[: 64 << 20] = bytes(64 << 20)
print("BENCH-IDLE", flush=True)
time.sleep(1000)
"""


def domain(program: str, mark: Path) -> Peer:
    return Peer(
        "xenion",
        "",
        True,
        lambda: None,
        lambda run: [sys.executable, "-c", program],
        lambda run: ["touch", str(mark)],
    )


def test_an_idle_domain_is_read_and_destroyed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "XENION", domain(STAND_IN, tmp_path / "destroyed"))
    monkeypatch.setattr(memory, "_SETTLE_S", 0)
    session = Session()
    memory.measure(session, Assets(tmp_path), 1, 60)
    (measured,) = session.runs
    assert measured.failure is None
    assert 1 < measured.values["pss_less_guest_mib"] < 64
    assert (tmp_path / "destroyed").exists()


@pytest.mark.parametrize(
    ("program", "limit", "failure"),
    [
        ("print('panic')", 60, "the guest ended instead of idling"),
        ("import time; time.sleep(1000)", 0.5, "killed: still running after 0.5 s"),
        ("import time; print('BENCH-IDLE', flush=True); time.sleep(1000)", 60, "0 new processes map a memfd"),
    ],
)
def test_a_domain_that_does_not_idle_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, limit: float, failure: str
) -> None:
    monkeypatch.setattr(memory, "XENION", domain(program, tmp_path / "destroyed"))
    monkeypatch.setattr(memory, "_SETTLE_S", 0)
    session = Session()
    memory.measure(session, Assets(tmp_path), 1, limit)
    (measured,) = session.failures()
    assert (measured.failure or "").startswith(failure)
    assert measured.values == {}
    assert (tmp_path / "destroyed").exists()


def test_no_domain_is_an_error() -> None:
    with pytest.raises(memory.ReadingError, match="0 new processes"):
        own_mib()
