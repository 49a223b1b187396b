"""The parent's end of a domain process: events come in whole, whatever the pieces."""

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from xenion.config.domain import DomainConfig
from xenion.domain.launch import LaunchedDomain, launch
from xenion.domain.protocol import Event


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[tuple[LaunchedDomain, int]]:
    """A launched domain whose process is over, and the end that it wrote its events to."""
    process = subprocess.Popen(["true"])
    process.wait()
    ours, theirs = socket.socketpair()
    reader, writer = os.pipe()
    yield LaunchedDomain("guest", process, ours, reader, tmp_path), writer
    theirs.close()


def test_events_come_whole(ends: tuple[LaunchedDomain, int]) -> None:
    domain, writer = ends
    line = Event("note", text="one").encode()
    os.write(writer, line + line[:5])
    assert list(domain.events()) == [Event("note", text="one")]
    os.write(writer, line[5:])
    assert list(domain.events()) == [Event("note", text="one")]
    os.close(writer)
    with pytest.raises(EOFError):
        list(domain.events())
    domain.close()


def test_a_report_that_was_not_needed_goes(ends: tuple[LaunchedDomain, int], tmp_path: Path) -> None:
    domain, writer = ends
    os.close(writer)
    (tmp_path / "crash-1.txt").touch()
    (tmp_path / "crash-2.txt").write_text("a real one")
    domain.close()
    assert [path.name for path in tmp_path.iterdir()] == ["crash-2.txt"]


def test_a_refusal_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The real process, which gets as far as its missing kernel."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    domain = launch(DomainConfig(name="web", kernel=Path("/nowhere/vmlinuz")))
    events: list[Event] = []
    with suppress(EOFError):
        while True:
            events += domain.events()
    assert events == [Event("refused", text="kernel /nowhere/vmlinuz does not exist: correct the path")]
    assert domain.process.wait() == 2
    domain.close()
