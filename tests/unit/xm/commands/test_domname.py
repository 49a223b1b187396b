"""`xm domname`."""

from tests.unit.xm.conftest import Xm
from tests.unit.xm.fake_xend import FakeXend, domain


def test_a_name(xm: Xm, xend: FakeXend) -> None:
    xend.answers["domain"] = domain()
    assert xm("domname", "1").out == "web\n"
    assert xm("domname", "1", "--json").out == '"web"\n'
    assert xend.asked[0].parameters == {"domain": "1"}
