"""What follows from a request: who holds the guest, what the journal says, when a pause is answered."""

import os
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.unit.domain.descriptors import open_descriptors
from xenion.domain.control import Refusal, Request
from xenion.domain.process import DomainProcess
from xenion.domain.requests import BUILDING, HOLDER, STOPPED, Requests


class Guest:
    def __init__(self) -> None:
        self.domain = SimpleNamespace(parked=False)
        self.holders: set[str] = set()

    def hold(self, who: str) -> None:
        self.holders.add(who)

    def let_go(self, who: str) -> None:
        self.holders.discard(who)

    def held_by(self, who: str) -> bool:
        return who in self.holders


class Process:
    """As much of a process as requests ask for."""

    def __init__(self) -> None:
        self.machine: Guest | None = Guest()
        self.running = True
        self.kinds: list[str] = []
        self.files: dict[str, list[int]] = {"log": [], "report": [], "core": []}
        self.journal = SimpleNamespace(add=self.kinds.append, trim=lambda through: through == 3)
        self.dumps = SimpleNamespace()
        self.log, self.report, self.core = (
            SimpleNamespace(replace=self.files[kind].append) for kind in ("log", "report", "core")
        )
        self.requests = Requests(cast("DomainProcess", self))
        self.answers: list[Any] = []
        self.open = True

    def send(self, message: dict[str, Any]) -> None:
        self.answers.append(message.get("done", message.get("error")))

    def ask(self, word: str, fds: list[int] | None = None, **fields: Any) -> Any:
        """The answer, or None while there is none."""
        self.answers.clear()
        request = Request(cast("Any", self), 1, fields, fds or [])
        try:
            self.requests.handlers()[word](request)
        except Refusal as refusal:
            request.refuse(str(refusal))
        return self.answers[0] if self.answers else None


@pytest.fixture
def process() -> Iterator[Process]:
    before = open_descriptors()
    yield Process()
    assert open_descriptors() <= before, "a descriptor was left open"


def guest(process: Process) -> Guest:
    assert process.machine is not None
    return process.machine


def test_a_pause_is_answered_when_the_guest_holds_still(process: Process) -> None:
    assert process.ask("pause") is None
    process.requests.look()
    assert process.answers == []
    guest(process).domain.parked = True
    process.requests.look()
    process.requests.look()
    assert process.answers == [{}]
    assert process.kinds == ["paused"]


def test_a_pause_that_is_taken_back_is_answered(process: Process) -> None:
    process.ask("pause")
    assert process.ask("unpause") == {}
    assert process.answers == [{}, {}]
    assert process.kinds == ["paused", "unpaused"]


def test_what_others_hold_is_not_ours_to_let_go(process: Process) -> None:
    guest(process).hold("dump")
    assert process.ask("unpause") == {}
    assert process.kinds == []
    process.ask("pause")
    assert process.kinds == ["paused"]
    assert guest(process).holders == {"dump", HOLDER}
    process.ask("unpause")
    assert guest(process).holders == {"dump"}


def test_a_pause_of_a_guest_that_stops_meanwhile_is_refused(process: Process) -> None:
    process.ask("pause")
    process.running = False
    process.requests.look()
    assert process.answers == [STOPPED]


@pytest.mark.parametrize("word", ["pause", "unpause", "shutdown", "sysrq", "nmi"])
def test_what_needs_a_guest_that_runs(process: Process, word: str) -> None:
    fields: dict[str, Any] = {"mode": "reboot", "key": "s", "vcpu": 0}
    process.running = False
    assert process.ask(word, **fields) == STOPPED
    process.machine = None
    assert process.ask(word, **fields) == BUILDING
    assert process.kinds == []


@pytest.mark.parametrize("kind", ["log", "report", "core"])
def test_a_new_file(process: Process, kind: str) -> None:
    fd = os.memfd_create("file")
    assert process.ask(kind, fds=[fd]) == {}
    assert process.files[kind] == [fd]
    os.close(fd)
    assert "0 descriptors" in process.ask(kind)
    assert "2 descriptors" in process.ask(kind, fds=[os.memfd_create("a"), os.memfd_create("b")])
    assert process.files[kind] == [fd]


def test_trim(process: Process) -> None:
    assert process.ask("trim", through=3) == {"trimmed": True}
    assert process.ask("trim", through=2) == {"trimmed": False}
    assert "whole number" in process.ask("trim", through="3")
