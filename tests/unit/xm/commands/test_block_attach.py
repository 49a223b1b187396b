"""`xm block-attach`."""

import json
from pathlib import Path

import pytest

from tests.unit.xm.conftest import Xm
from tests.unit.xm.fake_xend import Broken, FakeXend, Series, disk, disks
from xenion.api.errors import ApiError
from xenion.config.disk import Disk


@pytest.mark.parametrize(
    "words",
    [
        ["phy:/dev/sdb", "xvdb", "w"],
        ["/dev/sdb,raw,xvdb,rw"],
        ["vdev=xvdb", "target=/dev/sdb"],
        ["phy:sdb,xvdb,w"],
        ["phy:/dev/sdb", "51728", "w", "0"],
    ],
)
def test_the_classic_form_and_xls(xm: Xm, xend: FakeXend, words: list[str]) -> None:
    xend.answers["attach_disk"] = disk("xvdb")
    ran = xm("block-attach", "web", *words)
    assert (ran.status, ran.out, ran.err) == (0, "Attached xvdb\n", "")
    assert xend.asked[0].parameters == {"domain": "web"}
    assert xend.asked[0].body == {"disk": Disk(target="/dev/sdb", vdev="xvdb").to_mapping()}


def test_a_path_starts_here(xm: Xm, xend: FakeXend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    xend.answers["attach_disk"] = disk("xvdb")
    assert json.loads(xm("block-attach", "--json", "web", "a.img,raw,xvdb,rw,overlay").out) == disk("xvdb")
    assert xend.asked[0].body["disk"]["target"] == f"{tmp_path}/a.img"
    assert xend.asked[0].body["disk"]["overlay"] is True


def test_notes_are_told(xm: Xm, xend: FakeXend) -> None:
    xend.answers["attach_disk"] = disk("xvdb")
    said = "note: disk: xvdb: untrusted has no effect: the guest's front end is not told\n"
    assert xm("block-attach", "web", "/a,raw,xvdb,untrusted").err == said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["/a"], "xm: disk '/a': the virtual disk is missing: write TARGET,FORMAT,xvda,w or vdev=xvda\n"),
        (
            ["/dev/sdb", "xvdb", "w"],
            "xm: disk '/dev/sdb,xvdb,w': format must be raw, qcow2 or nbd, not 'xvdb', or file:",
        ),
        ([], "xm: the following arguments are required: SPEC"),
    ],
)
def test_wrong_usage(xm: Xm, xend: FakeXend, words: list[str], said: str) -> None:
    ran = xm("block-attach", "web", *words)
    assert ran.status == 2
    assert ran.err.startswith(said)
    assert xend.asked == []


def test_the_connection_breaks_when_it_is_done(xm: Xm, xend: FakeXend) -> None:
    made = disk("xvdb", target="/a")
    xend.answers.update(attach_disk=Broken(), disks=disks(disk(), made))
    ran = xm("block-attach", "--json", "web", "/a,raw,xvdb")
    assert ran.status == 0
    assert json.loads(ran.out) == made
    assert len(xend.asked_for("attach_disk")) == 1


def test_the_connection_breaks_before_it_is_done(xm: Xm, xend: FakeXend) -> None:
    """Another disk of that name is not ours: the second answer says so."""
    taken = ApiError("already-exists", "web has a disk xvdb already")
    xend.answers.update(attach_disk=Series([Broken(), taken]), disks=disks(disk("xvdb")))
    ran = xm("block-attach", "web", "/a,raw,xvdb")
    assert (ran.status, ran.err) == (2, "xm: web has a disk xvdb already\n")
