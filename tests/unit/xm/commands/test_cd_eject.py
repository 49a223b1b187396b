"""`xm cd-eject`."""

from tests.unit.xm.conftest import Xm
from tests.unit.xm.fake_xend import FakeXend, disk


def test_the_cd_comes_out(xm: Xm, xend: FakeXend) -> None:
    xend.answers["configure_disk"] = disk("hdc", target="")
    ran = xm("cd-eject", "web", "hdc")
    assert (ran.status, ran.out, ran.err) == (0, "", "")
    asked = xend.asked[0]
    assert (asked.parameters, asked.body) == ({"domain": "web", "vdev": "hdc"}, {"target": ""})
