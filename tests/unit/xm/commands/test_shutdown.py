"""`xm shutdown`."""

from typing import Any

import pytest

from tests.unit.xm.conftest import Xm
from tests.unit.xm.fake_xend import Broken, FakeXend, Series, domain, host, no_domain, outcome, task
from xenion.api.errors import ApiError


def asked_of(xend: FakeXend) -> list[str]:
    return [asked.parameters["domain"] for asked in xend.asked_for("shutdown")]


def over(reason: str) -> dict[str, Any]:
    return task(result={"reason": reason, "boots": 1, "over": True})


@pytest.mark.parametrize(("words", "mode"), [([], "poweroff"), (["-R"], "reboot"), (["-H"], "halt")])
def test_the_guest_is_asked(xm: Xm, xend: FakeXend, words: list[str], mode: str) -> None:
    xend.answers["shutdown"] = task("running")
    ran = xm("shutdown", *words, "web", "mail")
    assert (ran.status, ran.out, ran.err) == (0, "", "")
    assert asked_of(xend) == ["web", "mail"]
    assert xend.asked[0].body == {"mode": mode}


def test_and_waited_for(xm: Xm, xend: FakeXend) -> None:
    """All are asked before the first one is waited for."""
    xend.answers["shutdown"] = task("running")
    xend.answers["task"] = Series([task("running"), task(), task()])
    xend.answers["domain"] = domain()
    assert xm("shutdown", "-w", "web", "mail").status == 0
    assert xend.actions() == ["domain", "shutdown", "domain", "shutdown", "task", "task", "task"]


def test_all_that_run(xm: Xm, xend: FakeXend) -> None:
    domains = [host(), domain(), domain("later", None, state="defined"), domain("held", 3, state="paused")]
    xend.answers.update(list={"domains": domains}, shutdown=task())
    assert xm("shutdown", "-a").status == 0
    assert asked_of(xend) == ["uuid-of-web", "uuid-of-held"]


def test_all_of_none(xm: Xm, xend: FakeXend) -> None:
    xend.answers["list"] = {"domains": [host()]}
    assert xm("shutdown", "-a", "-w").status == 0


def test_one_fails(xm: Xm, xend: FakeXend) -> None:
    xend.answers["shutdown"] = Series([no_domain("a"), task("running")])
    xend.answers.update(task=task(), domain=domain())
    ran = xm("shutdown", "-w", "a", "b")
    assert (ran.status, ran.err) == (1, 'xm: there is no domain of the name "a"\n')
    assert xend.actions() == ["domain", "shutdown", "domain", "shutdown", "task"]


def test_a_task_fails(xm: Xm, xend: FakeXend) -> None:
    xend.answers["shutdown"] = task("failed", error={"code": "failed", "message": "it will not"})
    xend.answers["domain"] = domain()
    ran = xm("shutdown", "-w", "web")
    assert (ran.status, ran.err) == (1, "xm: it will not\n")


def test_xend_is_restarted_meanwhile(xm: Xm, xend: FakeXend) -> None:
    xend.answers["shutdown"] = task("running")
    xend.answers["task"] = Series([ApiError("no-such-task", "there is no task t1"), task()])
    xend.answers["domain"] = domain()
    assert xm("shutdown", "-w", "web").status == 0
    assert xend.actions() == ["domain", "shutdown", "task", "domain", "shutdown", "task"]


def test_the_connection_breaks_and_it_is_over(xm: Xm, xend: FakeXend) -> None:
    xend.answers.update(shutdown=Broken(), domain=Series([domain(), no_domain()]), outcome=outcome())
    assert xm("shutdown", "-w", "web").status == 0


def test_an_interruption_stops_the_waiting_only(
    xm: Xm, xend: FakeXend, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xenion.api.client import Client

    def interrupted(self: Client, *words: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Client, "follow", interrupted)
    xend.answers.update(shutdown=task("running"), domain=domain())
    ran = xm("shutdown", "-w", "web")
    assert (ran.status, ran.err) == (130, "xm: no longer waiting; what was asked of the guests goes on\n")
    assert xend.actions() == ["domain", "shutdown"]


def test_one_is_destroyed_meanwhile(xm: Xm, xend: FakeXend) -> None:
    xend.answers["list"] = {"domains": [host(), domain(), domain("mail", 2)]}
    xend.answers["shutdown"] = Series([over("destroyed"), over("poweroff")])
    xend.answers["outcome"] = outcome("destroyed")
    ran = xm("shutdown", "-a", "-w")
    assert (ran.status, ran.err) == (1, "xm: web: the domain was destroyed\n")
    assert [asked.parameters for asked in xend.asked_for("outcome")] == [{"uuid": "uuid-of-web"}]


def test_nobody_knows_that_one_is_destroyed(xm: Xm, xend: FakeXend) -> None:
    """The task was that of a xend which is no more."""
    xend.answers.update(shutdown=Broken(), domain=Series([domain(), no_domain()]), outcome=outcome("died"))
    ran = xm("shutdown", "-w", "web")
    assert ran.status == 1
    assert ran.err.startswith("xm: web: the domain's process ended unexpectedly")


@pytest.mark.parametrize("words", [[], ["-a", "web"], ["-R", "-H", "web"]])
def test_wrong_usage(xm: Xm, words: list[str]) -> None:
    assert xm("shutdown", *words).status == 2
