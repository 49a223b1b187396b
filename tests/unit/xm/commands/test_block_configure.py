"""`xm block-configure`."""

import json
from typing import Any

import pytest

from tests.unit.xm.conftest import Xm
from tests.unit.xm.fake_xend import Broken, FakeXend, Series, disk


@pytest.fixture(autouse=True)
def configured(xend: FakeXend) -> None:
    xend.answers["configure_disk"] = disk()


@pytest.mark.parametrize(
    ("words", "vdev", "body"),
    [
        (["xvdb", "--limit-bytes=10M"], "xvdb", {"limit_bytes": 10 << 20}),
        (
            ["xvdb", "--limit-bytes", "0", "--limit-requests=500"],
            "xvdb",
            {"limit_bytes": 0, "limit_requests": 500},
        ),
        (["--resize", "20G", "51728"], "xvdb", {"resize_bytes": 20 << 30}),
        (["hdc", "--target", "/a.iso"], "hdc", {"target": "/a.iso"}),
        (["hdc", "--target=nbd://h/cd"], "hdc", {"target": "nbd://h/cd"}),
        (["hdc", "--eject"], "hdc", {"target": ""}),
        (["file:/a.iso", "hdc:cdrom", "r"], "hdc", {"target": "/a.iso"}),
        (["file:/a.iso", "hdc:cdrom", "r", "0"], "hdc", {"target": "/a.iso"}),
        (["/a.iso,,hdc,cdrom", "--limit-bytes=1K"], "hdc", {"target": "/a.iso", "limit_bytes": 1024}),
    ],
)
def test_changes(xm: Xm, xend: FakeXend, words: list[str], vdev: str, body: dict[str, Any]) -> None:
    ran = xm("block-configure", "web", *words)
    assert (ran.status, ran.out, ran.err) == (0, "", "")
    assert (xend.asked[0].parameters, xend.asked[0].body) == ({"domain": "web", "vdev": vdev}, body)


def test_for_programs(xm: Xm) -> None:
    assert json.loads(xm("block-configure", "--json", "web", "xvdb", "--limit-bytes=0").out) == disk()


def test_a_broken_connection_is_asked_again(xm: Xm, xend: FakeXend) -> None:
    xend.answers["configure_disk"] = Series([Broken(), disk()])
    assert xm("block-configure", "web", "hdc", "--eject").status == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["xvdb"], 'say what is to change; see "xm block-configure -h"'),
        (["vda", "--eject"], "'vda' is no virtual disk"),
        (["xvdb", "--resize=20GB"], "argument --resize: it must be a number of bytes, or of K, M, G or T"),
        (["xvdb", "--limit-requests=1K"], 'argument --limit-requests: "1K" is not a whole number'),
        (["hdc", "--eject", "--target=/a"], "not allowed with argument"),
        (["hdc", "--target="], "give the path of the image"),
        (["hdc", "--target=qcow2:/a"], "a CD is a raw image, not qcow2"),
        (["/a.iso,,hdc,cdrom", "--eject"], "the disk has a target already"),
        (["/a.iso,hdc"], "the virtual disk is missing"),
    ],
)
def test_wrong_usage(xm: Xm, xend: FakeXend, words: list[str], said: str) -> None:
    ran = xm("block-configure", "web", *words)
    assert ran.status == 2
    assert said in ran.err
    assert xend.asked == []
