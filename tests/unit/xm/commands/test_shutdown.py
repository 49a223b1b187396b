"""`xm shutdown`."""

import pytest

from tests.unit.xm.conftest import Xm
from tests.unit.xm.fake_xend import Broken, FakeXend, Series, domain, host, no_domain, task
from xenion.api.errors import ApiError


def asked_of(xend: FakeXend) -> list[str]:
    return [asked.parameters["domain"] for asked in xend.asked_for("shutdown")]


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
    assert xm("shutdown", "-w", "web", "mail").status == 0
    assert xend.actions() == ["shutdown", "shutdown", "task", "task", "task"]


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
    xend.answers["task"] = task()
    ran = xm("shutdown", "-w", "a", "b")
    assert (ran.status, ran.err) == (1, 'xm: there is no domain of the name "a"\n')
    assert xend.actions() == ["shutdown", "shutdown", "task"]


def test_a_task_fails(xm: Xm, xend: FakeXend) -> None:
    xend.answers["shutdown"] = task("failed", error={"code": "failed", "message": "it will not"})
    ran = xm("shutdown", "-w", "web")
    assert (ran.status, ran.err) == (1, "xm: it will not\n")


def test_xend_is_restarted_meanwhile(xm: Xm, xend: FakeXend) -> None:
    xend.answers["shutdown"] = task("running")
    xend.answers["task"] = Series([ApiError("no-such-task", "there is no task t1"), task()])
    xend.answers["domain"] = domain()
    assert xm("shutdown", "-w", "web").status == 0
    assert xend.actions() == ["shutdown", "task", "domain", "shutdown", "task"]


def test_the_connection_breaks_and_it_is_over(xm: Xm, xend: FakeXend) -> None:
    xend.answers.update(shutdown=Broken(), domain=no_domain())
    assert xm("shutdown", "-w", "web").status == 0


def test_an_interruption_stops_the_waiting_only(
    xm: Xm, xend: FakeXend, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xenion.api.client import Client

    def interrupted(self: Client, *words: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Client, "follow", interrupted)
    xend.answers["shutdown"] = task("running")
    ran = xm("shutdown", "-w", "web")
    assert (ran.status, ran.err) == (130, "xm: no longer waiting; what was asked of the guests goes on\n")
    assert xend.actions() == ["shutdown"]


@pytest.mark.parametrize("words", [[], ["-a", "web"], ["-R", "-H", "web"]])
def test_wrong_usage(xm: Xm, words: list[str]) -> None:
    assert xm("shutdown", *words).status == 2
