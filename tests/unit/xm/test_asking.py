"""Guests that are asked at once. The rest is in commands/test_shutdown.py."""

from tests.unit.xm.conftest import Xm
from tests.unit.xm.fake_xend import Broken, FakeXend, Series, domain, task


def test_one_is_asked_again_when_the_connection_broke(xm: Xm, xend: FakeXend) -> None:
    xend.answers.update(shutdown=Series([Broken(), task()]), domain=domain())
    assert xm("shutdown", "web").status == 0
    assert xend.actions() == ["shutdown", "domain", "shutdown"]
