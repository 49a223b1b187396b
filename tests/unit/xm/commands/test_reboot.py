"""`xm reboot`."""

from typing import Any

import pytest

from tests.unit.xm.conftest import Xm
from tests.unit.xm.fake_xend import FakeXend, Series, domain, outcome, task


def ended(reason: str = "reboot", *, over: bool) -> dict[str, Any]:
    return task(result={"reason": reason, "boots": 2, "over": over})


def test_the_guest_is_asked_and_waited_for(xm: Xm, xend: FakeXend) -> None:
    answers = Series([task("running"), ended(over=False)])
    xend.answers.update(domain=domain(), shutdown=task("running"), task=answers)
    assert xm("reboot", "-w", "web").status == 0
    assert xend.asked[1].body == {"mode": "reboot"}
    assert xend.actions() == ["domain", "shutdown", "task", "task"]


@pytest.mark.parametrize("words", [["reboot"], ["shutdown", "-R"]])
@pytest.mark.parametrize(
    ("happened", "said"),
    [
        (outcome("destroyed"), "the domain was destroyed"),
        (outcome("crash", report="/r"), "the domain crashed; the report is in /r"),
        (outcome("poweroff"), "it powered off"),
        (outcome("reboot"), 'its on_reboot is "destroy"'),
        (outcome("reboot", notes=["it rebooted too soon"]), "it rebooted too soon"),
        (
            outcome("reboot", action="preserve"),
            'the domain has stopped and is preserved: "xm destroy web" ends it',
        ),
    ],
)
def test_one_that_does_not_come_back(
    xm: Xm, xend: FakeXend, words: list[str], happened: Any, said: str
) -> None:
    xend.answers.update(
        domain=domain(), shutdown=ended(happened["reason"], over=True), outcome=Series([happened])
    )
    ran = xm(*words, "-w", "web")
    assert (ran.status, ran.err) == (1, f"xm: web did not come back: {said}\n")


def test_another_comes_in_its_place(xm: Xm, xend: FakeXend) -> None:
    happened = outcome("reboot", action="rename-restart")
    xend.answers.update(domain=domain(), shutdown=ended(over=True), outcome=happened)
    assert xm("reboot", "-w", "web").status == 0
