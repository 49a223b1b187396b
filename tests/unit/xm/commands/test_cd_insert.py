"""`xm cd-insert`."""

from pathlib import Path

import pytest

from tests.unit.xm.conftest import Xm
from tests.unit.xm.fake_xend import FakeXend, disk
from xenion.api.errors import ApiError


def test_a_cd_goes_in(xm: Xm, xend: FakeXend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    xend.answers["configure_disk"] = disk("hdc")
    ran = xm("cd-insert", "web", "hdc", "a.iso")
    assert (ran.status, ran.out, ran.err) == (0, "", "")
    asked = xend.asked[0]
    assert (asked.parameters, asked.body) == (
        {"domain": "web", "vdev": "hdc"},
        {"target": f"{tmp_path}/a.iso"},
    )


def test_a_drive_that_is_none(xm: Xm, xend: FakeXend) -> None:
    xend.answers["configure_disk"] = ApiError("wrong-state", "xvda is not a CD-ROM: its target stays")
    assert xm("cd-insert", "web", "xvda", "/a.iso").status == 1


@pytest.mark.parametrize(("dev", "target"), [("hdc", ""), ("hdc", "vhd:/a"), ("x", "/a")])
def test_wrong_usage(xm: Xm, xend: FakeXend, dev: str, target: str) -> None:
    assert xm("cd-insert", "web", dev, target).status == 2
    assert xend.asked == []
