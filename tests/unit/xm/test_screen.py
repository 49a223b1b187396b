"""A user at `xm top`."""

from collections.abc import Iterator

import pytest

from tests.system.terminal import Terminal
from tests.unit.xm.fake_xend import INFO, FakeXend, Series, domain, host, vcpu
from tests.unit.xm.process import terminal
from xenion.api.errors import ApiError


@pytest.fixture
def user(xend: FakeXend) -> Iterator[Terminal]:
    domains = [host(), domain("web", 1, memory_mib=64), domain("mail", 2), domain("odd\x1bname", 3)]
    xend.answers.update(info=INFO, list={"domains": domains}, vcpus={"vcpus": [vcpu()]})
    made = terminal("top", "-d", "1000")
    made.expect(b"xm top - Xenion 0.1.0 on box")
    made.expect(b"Domain-0")
    yield made
    made.close()


def leave(user: Terminal) -> None:
    user.type(b"q")
    assert user.wait() == 0
    assert user.modes() == user.before
    assert b"Traceback" not in user.seen


def test_one_looks_and_leaves(user: Terminal) -> None:
    user.expect(rb"mail.*odd\\x1bname.*web")
    leave(user)


def test_a_capital_letter_leaves_as_well(user: Terminal) -> None:
    user.type(b"Q")
    assert user.wait() == 0


def test_virtual_cpus(user: Terminal) -> None:
    user.type(b"v")
    user.expect(b"VCPU   0")
    leave(user)


def test_help_and_back(user: Terminal) -> None:
    user.type(b"h")
    user.expect(b"sort by name")
    user.type(b"xq")
    assert user.wait() == 0


def test_another_delay(user: Terminal, xend: FakeXend) -> None:
    """It counts from the next sample on, which v asks for."""
    user.type(b"d")
    user.expect(b"seconds between samples")
    user.type(b"0.1\rv")
    user.expect(b"VCPU   0")
    xend.answers["list"] = {"domains": [host(), domain("fresh")]}
    user.expect(b"fresh")
    user.type(b"d")
    user.expect(b"seconds between samples")
    user.type(b"nan\r")
    leave(user)


def test_every_key_can_be_pressed(user: Terminal) -> None:
    user.type(b"ncmtir pp  \x1b[A\x1b[B\x1b[5~\x1b[6~zd\x1bnonsense\r")
    user.resize(3, 10)
    user.type(b"n")
    leave(user)


def test_xend_goes_away(user: Terminal, xend: FakeXend) -> None:
    xend.answers["info"] = Series([ApiError("failed", "it is lost"), INFO])
    user.type(b"v")
    user.expect(b"it is lost")
    user.type(b"v")
    user.expect(b"xm top")
    leave(user)
