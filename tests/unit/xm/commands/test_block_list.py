"""`xm block-list`."""

import json

from tests.unit.xm.conftest import Xm
from tests.unit.xm.fake_xend import FakeXend, Series, disk, disks, no_domain

DRIVE = disk("xvdb", target="", format="raw", mode="r", cdrom=True, state="initwait", size_bytes=0)
BASE = disk("xvdc", target="/\x1b[2J", overlay=True)


def test_a_table(xm: Xm, xend: FakeXend) -> None:
    xend.answers["disks"] = disks(disk(), DRIVE, BASE)
    ran = xm("block-list", "web")
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.splitlines() == [
        "Name                     Vdev     Mode State        Size(MiB) Format        Target",
        "web                      xvda     w    connected        10240 qcow2         /srv/web.qcow2",
        "web                      xvdb     r    initwait             0 raw,cdrom     -",
        "web                      xvdc     w    connected        10240 qcow2,overlay /\\x1b[2J",
    ]


def test_of_several(xm: Xm, xend: FakeXend) -> None:
    xend.answers["disks"] = Series([disks(disk()), no_domain("x"), disks(DRIVE, name="db", domid=2)])
    ran = xm("block-list", "--json", "web", "x", "db")
    assert (ran.status, ran.err) == (1, 'xm: there is no domain of the name "x"\n')
    assert json.loads(ran.out) == [
        {"domain": "web", "domid": 1, **disk()},
        {"domain": "db", "domid": 2, **DRIVE},
    ]


def test_everything(xm: Xm, xend: FakeXend) -> None:
    xend.answers["disks"] = disks(disk(), DRIVE)
    first, second = xm("block-list", "-l", "web").out.split("\n\n")
    assert "rd_bytes               : 4096\n" in first
    assert "cdrom                  : yes\n" in second


def test_none(xm: Xm, xend: FakeXend) -> None:
    xend.answers["disks"] = disks()
    assert xm("block-list", "web").out.count("\n") == 1
    assert json.loads(xm("block-list", "--json", "web").out) == []
