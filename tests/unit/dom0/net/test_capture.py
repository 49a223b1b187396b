"""Captures as tcpdump reads them, and writers that do not get rid of their bytes."""

import os
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.dom0.net import frames as make
from tests.unit.dom0.net.conftest import Plugged
from xenion.dom0.net.capture import Capture

PLAIN = make.ether(b"hello" * 10, 0x88B5)


def packets(data: bytes) -> list[tuple[int, bytes]]:
    """(length on the wire, bytes kept) of each."""
    assert struct.unpack_from("<IHHiII", data)[:3] == (0xA1B2C3D4, 2, 4)
    assert struct.unpack_from("<I", data, 20) == (1,)
    at, found = 24, []
    while at < len(data):
        _, micro, kept, length = struct.unpack_from("<IIII", data, at)
        assert micro < 1_000_000
        found.append((length, data[at + 16 : at + 16 + kept]))
        at += 16 + kept
    return found


def test_both_directions_of_a_vif(plug: Callable[..., Plugged], tmp_path: Path) -> None:
    made = plug()
    files = [tmp_path / "one.pcap", tmp_path / "two.pcap"]
    captures = [Capture(os.open(file, os.O_WRONLY | os.O_CREAT)) for file in files]
    made.backend.captures.append(captures[0])
    made.front.queue.send(make.tcp(b"out", blank=True), 1)
    made.kick()
    made.backend.captures.append(captures[1])
    made.front.queue.post(1)
    made.wire.deliver(PLAIN)
    made.backend.captures.remove(captures[0])
    made.front.queue.send(PLAIN)
    made.kick()
    for capture in captures:
        capture.close()
    assert [data for _, data in packets(files[0].read_bytes())] == [make.tcp(b"out"), PLAIN]
    assert [data for _, data in packets(files[1].read_bytes())] == [PLAIN, PLAIN]
    assert (captures[0].frames, captures[0].drops) == (2, 0)


def test_tcpdump_reads_it(tmp_path: Path) -> None:
    if shutil.which("tcpdump") is None:
        pytest.skip("tcpdump is not here: install tcpdump")
    file = tmp_path / "a.pcap"
    capture = Capture(os.open(file, os.O_WRONLY | os.O_CREAT))
    capture.frame(make.tcp(b"data"))
    capture.close()
    said = subprocess.run(["tcpdump", "-nr", str(file)], capture_output=True, text=True, check=True).stdout
    assert "10.0.0.1.1000 > 10.0.0.2.80" in said


def test_long_frames_are_cut(tmp_path: Path) -> None:
    file = tmp_path / "a.pcap"
    capture = Capture(os.open(file, os.O_WRONLY | os.O_CREAT), snap=20)
    capture.frame(PLAIN)
    capture.close()
    assert packets(file.read_bytes()) == [(len(PLAIN), PLAIN[:20])]


def test_a_reader_that_lags_loses_whole_frames() -> None:
    read, write = os.pipe()
    capture = Capture(write)
    frame = make.ether(bytes(9000), 0x88B5)
    for _ in range(20):
        capture.frame(frame)
    assert capture.drops > 0
    data = os.read(read, 1 << 20)
    capture.frame(frame)
    data += os.read(read, 1 << 20)
    capture.close()
    os.close(read)
    assert capture.frames + capture.drops == 21
    assert packets(data) == [(len(frame), frame)] * capture.frames


def test_a_reader_that_leaves_ends_it() -> None:
    read, write = os.pipe()
    capture = Capture(write)
    os.close(read)
    capture.frame(PLAIN)
    capture.frame(PLAIN)
    assert "nobody reads" in capture.over
    assert (capture.frames, capture.drops) == (0, 2)
    capture.close()
