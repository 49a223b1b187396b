"""How disks and interfaces are named and described."""

import argparse

import pytest

from tests.unit.xm.fake_xend import FakeXend, disk, disks, no_domain
from xenion.api.errors import ApiError
from xenion.xm import devices
from xenion.xm.calls import connected
from xenion.xm.devices import (
    disk_word,
    interface_word,
    is_gone,
    is_interface,
    target_of,
)
from xenion.xm.errors import UsageError


def test_words_for_disks() -> None:
    assert [disk_word(word) for word in ("xvdb", "/dev/xvdb", "51728", "d1")] == ["xvdb"] * 4
    with pytest.raises(argparse.ArgumentTypeError, match="is no virtual disk"):
        disk_word("sr0")


def test_words_for_interfaces() -> None:
    assert interface_word("00") == "0"
    assert interface_word("00:16:3E:00:00:01") == "00:16:3e:00:00:01"
    with pytest.raises(argparse.ArgumentTypeError, match='"eth0" is neither a number nor a MAC address'):
        interface_word("eth0")


def test_an_interface_is_known_by_either() -> None:
    known = {"devid": 1, "mac": "00:16:3e:00:00:01"}
    assert is_interface("1")(known)
    assert is_interface("00:16:3e:00:00:01")(known)
    assert not is_interface("0")(known)


def test_what_is_gone(xend: FakeXend) -> None:
    with connected() as client:
        xend.answers["disks"] = disks(disk())
        assert is_gone(client, devices.disks, "web", lambda one: one["vdev"] == "xvdb")
        assert not is_gone(client, devices.disks, "web", lambda one: one["vdev"] == "xvda")
        xend.answers["disks"] = no_domain()
        assert is_gone(client, devices.disks, "web", lambda one: True)
        xend.answers["disks"] = ApiError("failed", "odd")
        with pytest.raises(ApiError, match="odd"):
            is_gone(client, devices.disks, "web", lambda one: True)


def test_a_target_must_be_one() -> None:
    assert target_of("file:/a.iso") == "/a.iso"
    for word in ("", "qcow2:/a"):
        with pytest.raises(UsageError):
            target_of(word)
