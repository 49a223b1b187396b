"""Tasks are shown on a terminal, and nowhere else."""

import os
import signal
import sys
from http.client import HTTPResponse
from pathlib import Path

import pytest

from tests.unit.xm.conftest import Xm
from tests.unit.xm.fake_xend import Asked, FakeXend, Series, domain, task
from tests.unit.xm.process import terminal
from xenion.api.client import Client
from xenion.api.errors import ApiError
from xenion.xm.calls import connected
from xenion.xm.errors import CancelledError
from xenion.xm.progress import ERASE, accomplish, line_of


@pytest.mark.parametrize(
    ("progress", "shown"),
    [
        (None, "create web: building the domain"),
        (0.5, "create web: building the domain [############            ]  50%"),
        (7, "create web: building the domain [########################] 100%"),
    ],
)
def test_the_line(progress: float | None, shown: str) -> None:
    assert line_of(task("running", progress=progress)) == shown


def test_a_hostile_step_is_harmless() -> None:
    assert line_of(task(step="\x1b[2J")) == "create web: \\x1b[2J"


def test_at_a_terminal(xend: FakeXend, config: Path) -> None:
    xend.answers["create"] = task("running", progress=0.25)
    xend.answers["task"] = task(result={"domain": domain()})
    user = terminal("create", "-q", config)
    try:
        user.expect(rb"create web: building the domain \[######                  \]  25%")
        assert user.wait() == 0
    finally:
        user.close()
    assert user.seen.endswith(b"\r\x1b[K")


def test_ctrl_c_cancels(xend: FakeXend, config: Path) -> None:
    """The key, while xend is slow to answer."""
    xend.answers["create"] = task("running")
    cancelled: list[Asked] = []

    def slow(asked: Asked) -> object:
        os.kill(user.process.pid, signal.SIGINT)
        while not cancelled and not xend.asked_for("cancel"):
            os.sched_yield()
        return task("cancelled")

    xend.answers["task"] = slow
    xend.answers["cancel"] = task("cancelled")
    user = terminal("create", "-q", config)
    try:
        user.expect(b"xm: create of web was cancelled")
        assert user.wait() == 130
    finally:
        cancelled.append(xend.asked[-1])
        user.close()
    assert xend.asked_for("cancel")[0].parameters == {"task": "t1"}


def test_nothing_elsewhere(xm: Xm, xend: FakeXend, config: Path) -> None:
    xend.answers.update(create=task("running"), task=task(result={"domain": domain()}))
    assert xm("create", "-q", config).err == ""


def test_what_has_no_word_is_not_asked_for_again(xend: FakeXend) -> None:
    xend.answers.update(dump=task("running"), task=ApiError("no-such-task", "there is no task t1"))
    with connected() as client, pytest.raises(ApiError, match="there is no task t1"):
        accomplish(client, "dump", domain="web")
    assert xend.actions() == ["dump", "task"]


class Interrupted(Client):
    """ctrl-C when the request `at` has been sent, and before its answer."""

    def __init__(self, at: str) -> None:
        super().__init__()
        self.at = at

    def _send(self, method: str, path: str, data: bytes | None) -> HTTPResponse:
        response = super()._send(method, path, data)
        if self.at and path.endswith(self.at):
            self.at = ""
            raise KeyboardInterrupt
        return response


@pytest.mark.parametrize(
    ("ended", "said"), [("cancelled", "was cancelled"), ("done", "was done before it could be cancelled")]
)
def test_ctrl_c_before_the_task_is_known(xend: FakeXend, ended: str, said: str) -> None:
    """The same request finds it."""
    xend.answers.update(create=task("running"), cancel=task(ended))
    client = Interrupted("/domains")
    with pytest.raises(CancelledError, match=f"create of web {said}"):
        accomplish(client, "create", {"config": {}})
    client.close()
    assert xend.actions() == ["create", "create", "cancel"]
    assert xend.asked[0].body == xend.asked[1].body


def test_ctrl_c_of_what_has_no_word(xend: FakeXend) -> None:
    """It is not asked for again: that would begin another one."""
    xend.answers["dump"] = task("running")
    client = Interrupted("/dump")
    with pytest.raises(KeyboardInterrupt):
        accomplish(client, "dump", domain="web")
    client.close()
    assert xend.actions() == ["dump"]


def test_ctrl_c_before_anything_was_asked(xend: FakeXend, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: Client) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Client, "_connected", interrupted)
    with pytest.raises(KeyboardInterrupt):
        accomplish(Client(), "create", {"config": {}})
    assert xend.asked == []


def test_each_change_is_looked_at(xend: FakeXend) -> None:
    """The first and the last one too, in order."""
    running = [task("running", seen=seen, step=f"step {seen}") for seen in range(3)]
    xend.answers.update(dump=running[0], task=Series([*running[1:], task(result={"a": 1}, seen=3, step="x")]))
    seen: list[str] = []
    with connected() as client:
        assert accomplish(client, "dump", None, lambda task: seen.append(task["step"]), domain="web") == {
            "a": 1
        }
    assert seen[:3] == ["step 0", "step 1", "step 2"]


def test_what_is_printed_meanwhile_has_a_line_of_its_own(
    xend: FakeXend, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The one that is drawn over and over is taken away first."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    xend.answers.update(
        dump=task("running", progress=0.5), task=Series([task("running", progress=0.6, seen=1), task(seen=2)])
    )

    def look(task: object) -> None:
        print("<looked>", file=sys.stderr)

    with connected() as client:
        accomplish(client, "dump", None, look, domain="web")
    lines = capsys.readouterr().err.split("<looked>\n")
    assert lines[0] == ""
    assert all(part.startswith(ERASE) and part.endswith(ERASE) for part in lines[1:])
    assert len(lines) >= 3
