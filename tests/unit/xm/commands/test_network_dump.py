"""`xm network-dump`."""

import os
import signal
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.xm.conftest import Xm
from tests.unit.xm.fake_xend import Asked, Broken, FakeXend, Series
from tests.unit.xm.process import Process, terminal
from tests.unit.xm.test_pcap import HEADER, packet
from xenion.api.errors import ApiError
from xenion.api.folders import folders

DATA = HEADER + packet(b"one") + packet(b"two") + packet(b"three")


class Writer:
    """The domain's end of a capture: it opens the FIFO when it is asked to, and writes what the test says."""

    def __init__(self, data: bytes = DATA, *, close: bool = False) -> None:
        self.paths: list[Path] = []
        self._data, self._close = data, close
        self._fd = -1

    def begin(self, asked: Asked) -> Any:
        path = Path(asked.body["path"])
        assert stat.S_ISFIFO(path.stat().st_mode)
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        self.paths.append(path)
        self._fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        os.write(self._fd, self._data)
        if self._close:
            self.end()
        return {"capture": "c1"}

    def end(self, asked: Asked | None = None) -> Any:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1
        return {"packets": 9, "dropped": 2}


@pytest.fixture
def writer(xend: FakeXend) -> Writer:
    made = Writer()
    xend.answers.update(capture=made.begin, stop_capture=made.end)
    return made


def test_so_many_packets_to_a_file(xm: Xm, xend: FakeXend, writer: Writer, tmp_path: Path) -> None:
    file = tmp_path / "a.pcap"
    ran = xm("network-dump", "web", "0", "-w", file, "-c", "2", "-s", "96")
    assert (ran.status, ran.out, ran.err) == (0, "", "xm: 2 packets captured, 2 lost\n")
    assert file.read_bytes() == HEADER + packet(b"one") + packet(b"two")
    begun, ended = xend.asked
    assert (begun.parameters, begun.body["snaplen"]) == ({"domain": "web", "device": "0"}, 96)
    assert ended.parameters == {"domain": "web", "device": "0", "capture": "c1"}
    assert not writer.paths[0].parent.exists()


def test_the_folder_is_where_xend_can_see_it(xm: Xm, writer: Writer, tmp_path: Path) -> None:
    """xend may have a /tmp of its own."""
    xm("network-dump", "web", "0", "-w", tmp_path / "a", "-c", "0")
    assert writer.paths[0].parent.parent == folders().run


def test_standard_output(xend: FakeXend, writer: Writer) -> None:
    process = Process("network-dump", "web", "0", "-c", "1")
    status, out, err = process.finish()
    assert (status, out, err) == (0, HEADER + packet(b"one"), "xm: 1 packet captured, 2 lost\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_in_order(xend: FakeXend, number: int) -> None:
    writer = Writer()

    def end(asked: Asked) -> Any:
        os.write(writer._fd, packet(b"the last one"))
        return writer.end()

    xend.answers.update(capture=writer.begin, stop_capture=end)
    process = Process("network-dump", "web", "0")
    assert process.read(len(DATA)) == DATA
    process.process.send_signal(number)
    status, out, err = process.finish()
    assert (status, out, err) == (0, packet(b"the last one"), "xm: 4 packets captured, 2 lost\n")


def test_a_second_signal_does_not_wait(xend: FakeXend) -> None:
    writer, asked_to_stop = Writer(), threading.Event()

    def end(asked: Asked) -> Any:  # the FIFO stays open
        asked_to_stop.set()
        return {"packets": 9, "dropped": 0}

    xend.answers.update(capture=writer.begin, stop_capture=end)
    process = Process("network-dump", "web", "0")
    assert process.read(len(DATA)) == DATA
    process.process.send_signal(signal.SIGINT)
    assert asked_to_stop.wait(20)
    process.process.send_signal(signal.SIGINT)
    status, _, _ = process.finish()
    assert status == 130
    assert not writer.paths[0].parent.exists()
    writer.end()


def test_the_interface_goes_away(xm: Xm, xend: FakeXend, tmp_path: Path) -> None:
    writer = Writer(close=True)
    xend.answers["capture"] = writer.begin
    ran = xm("network-dump", "web", "0", "-w", tmp_path / "a")
    assert (ran.status, ran.err) == (1, "xm: 3 packets captured; the interface is gone\n")
    assert (tmp_path / "a").read_bytes() == DATA


def test_it_goes_away_just_before_it_is_stopped(
    xm: Xm, xend: FakeXend, writer: Writer, tmp_path: Path
) -> None:
    def gone(asked: Asked) -> Any:
        writer.end()
        raise ApiError("no-such-device", "web has no interface 0")

    xend.answers["stop_capture"] = gone
    ran = xm("network-dump", "web", "0", "-w", tmp_path / "a", "-c", "1")
    assert (ran.status, ran.err) == (1, "xm: 1 packet captured; the interface is gone\n")


@pytest.mark.parametrize(
    "answer", [ApiError("no-such-device", "web has no interface 7"), ApiError("failed", "odd")]
)
def test_a_refusal_leaves_nothing(xm: Xm, xend: FakeXend, tmp_path: Path, answer: ApiError) -> None:
    xend.answers["capture"] = answer
    ran = xm("network-dump", "web", "7", "-w", tmp_path / "a")
    assert (ran.status, ran.err) == (1, f"xm: {answer.message}\n")
    assert [path.name for path in folders().run.iterdir()] == ["xend.sock"]


def test_the_connection_breaks_while_it_is_stopped(
    xm: Xm, xend: FakeXend, writer: Writer, tmp_path: Path
) -> None:
    answers: Series = Series([Broken(), writer.end])
    xend.answers["stop_capture"] = lambda asked: _call(answers, asked)
    assert xm("network-dump", "web", "0", "-w", tmp_path / "a", "-c", "1").status == 0


def _call(answers: Series, asked: Asked) -> Any:
    answer: Callable[[Asked], Any] | Exception = answers.pop(0)
    if isinstance(answer, Exception):
        raise answer
    return answer(asked)


def test_what_is_no_capture_is_stopped(xm: Xm, xend: FakeXend, tmp_path: Path) -> None:
    writer = Writer(b"<html>" + bytes(30))
    xend.answers.update(capture=writer.begin, stop_capture=writer.end)
    ran = xm("network-dump", "web", "0", "-w", tmp_path / "a")
    assert (ran.status, ran.err) == (1, "xm: what the domain sends is no capture\n")
    assert xend.actions() == ["capture", "stop_capture"]


def test_a_reader_that_goes_away_stops_it(xend: FakeXend, writer: Writer) -> None:
    process = Process("network-dump", "web", "0", shell='"$@" | head -c 1')
    status, out, _ = process.finish()
    assert (status, out) == (0, DATA[:1])
    assert not writer.paths[0].parent.exists()


def test_not_to_a_terminal(xend: FakeXend, writer: Writer) -> None:
    user = terminal("network-dump", "web", "0")
    try:
        user.expect(b"a capture is no text for a terminal: give -w FILE")
        assert user.wait() == 2
    finally:
        user.close()
    assert xend.asked == []


def test_a_file_that_cannot_be_written(xm: Xm, xend: FakeXend, tmp_path: Path) -> None:
    ran = xm("network-dump", "web", "0", "-w", tmp_path / "no" / "a")
    assert (ran.status, ran.err) == (1, f"xm: {tmp_path}/no/a: No such file or directory\n")
    assert xend.asked == []


def test_not_from_another_host(xm: Xm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XEND_URL", "https://127.0.0.1:1")
    ran = xm("network-dump", "web", "0", "-w", tmp_path / "a")
    assert ran.status == 1
    assert "a capture needs a xend on this host" in ran.err
