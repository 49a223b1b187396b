"""`xm reboot`."""

from tests.unit.xm.conftest import Xm
from tests.unit.xm.fake_xend import FakeXend, Series, task


def test_the_guest_is_asked_and_waited_for(xm: Xm, xend: FakeXend) -> None:
    xend.answers.update(shutdown=task("running"), task=Series([task("running"), task()]))
    assert xm("reboot", "-w", "web").status == 0
    assert xend.asked[0].body == {"mode": "reboot"}
    assert xend.actions() == ["shutdown", "task", "task"]
