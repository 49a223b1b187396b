"""`xm network-attach`."""

import json

import pytest

from tests.unit.xm.conftest import Xm
from tests.unit.xm.fake_xend import Broken, FakeXend, interface
from xenion.config.vif import Attachment, Vif


@pytest.mark.parametrize(
    ("words", "vif"),
    [
        ([], Vif()),
        (["bridge=xenbr0"], Vif(attachment=Attachment.BRIDGE, network="xenbr0")),
        (["mac=00:16:3E:00:00:01", "ip=10.0.0.1"], Vif(mac="00:16:3e:00:00:01", addresses=("10.0.0.1",))),
        (["mac=00:16:3e:00:00:01,type=vif"], Vif(mac="00:16:3e:00:00:01")),
    ],
)
def test_an_interface_comes(xm: Xm, xend: FakeXend, words: list[str], vif: Vif) -> None:
    xend.answers["attach_interface"] = interface(1)
    ran = xm("network-attach", "web", *words)
    assert (ran.status, ran.out, ran.err) == (0, "Attached interface 1 (00:16:3e:00:00:01)\n", "")
    assert (xend.asked[0].parameters, xend.asked[0].body) == ({"domain": "web"}, {"vif": vif.to_mapping()})


def test_for_programs_and_with_notes(xm: Xm, xend: FakeXend) -> None:
    xend.answers["attach_interface"] = interface(1)
    ran = xm("network-attach", "--json", "web", "model=e1000")
    assert json.loads(ran.out) == interface(1)
    assert ran.err == "note: vif: model has no effect: without effect on a paravirtualised guest\n"


def test_nobody_knows_whether_it_was(xm: Xm, xend: FakeXend) -> None:
    """It is not attached again: there would be two."""
    xend.answers["attach_interface"] = Broken()
    assert xm("network-attach", "web").status == 1
    assert xend.actions() == ["attach_interface"]


def test_wrong_usage(xm: Xm, xend: FakeXend) -> None:
    ran = xm("network-attach", "web", "brigde=x")
    assert ran.status == 2
    assert ran.err.startswith("xm: vif 'brigde=x': 'brigde' is not known: there is mac, rate")
    assert xend.asked == []
