"""`xm block-detach`."""

import pytest

from tests.unit.xm.conftest import Xm
from tests.unit.xm.fake_xend import Broken, FakeXend, Series, disk, disks, no_domain
from xenion.api.errors import ApiError


@pytest.mark.parametrize("word", ["xvdb", "51728", "/dev/xvdb", "d1"])
def test_a_disk_goes(xm: Xm, xend: FakeXend, word: str) -> None:
    xend.answers["detach_disk"] = {}
    ran = xm("block-detach", "web", word)
    assert (ran.status, ran.out, ran.err) == (0, "", "")
    assert (xend.asked[0].parameters, xend.asked[0].query) == ({"domain": "web", "vdev": "xvdb"}, {})


def test_by_force(xm: Xm, xend: FakeXend) -> None:
    xend.answers["detach_disk"] = {}
    assert xm("block-detach", "-f", "web", "xvdb").status == 0
    assert xend.asked[0].query == {"force": "true"}


def test_one_that_is_not_there(xm: Xm, xend: FakeXend) -> None:
    xend.answers["detach_disk"] = ApiError("no-such-device", "web has no disk xvdb")
    ran = xm("block-detach", "web", "xvdb")
    assert (ran.status, ran.err) == (1, "xm: web has no disk xvdb\n")


@pytest.mark.parametrize("after", [disks(disk()), no_domain()])
def test_the_connection_breaks_when_it_is_done(xm: Xm, xend: FakeXend, after: object) -> None:
    xend.answers.update(detach_disk=Broken(), disks=after)
    assert xm("block-detach", "web", "xvdb").status == 0
    assert xend.actions() == ["detach_disk", "disks"]


def test_the_connection_breaks_before_it_is_done(xm: Xm, xend: FakeXend) -> None:
    xend.answers.update(detach_disk=Series([Broken(), {}]), disks=disks(disk("xvdb")))
    assert xm("block-detach", "web", "xvdb").status == 0
    assert xend.actions() == ["detach_disk", "disks", "detach_disk"]


def test_nobody_can_tell(xm: Xm, xend: FakeXend) -> None:
    xend.answers.update(detach_disk=Broken(), disks=ApiError("failed", "odd"))
    ran = xm("block-detach", "web", "xvdb")
    assert (ran.status, ran.err) == (1, "xm: odd\n")


def test_what_is_no_disk(xm: Xm, xend: FakeXend) -> None:
    ran = xm("block-detach", "web", "vda")
    assert ran.status == 2
    assert ran.err.startswith("xm: argument DEV: 'vda' is no virtual disk: write xvda, xvdb and so on")
    assert xend.asked == []
