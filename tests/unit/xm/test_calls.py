"""What was asked for is done once, seen to be done, or told to be unknown."""

from collections.abc import Iterator

import pytest

from tests.unit.xm.fake_xend import Broken, FakeXend, Series, domain, no_domain
from xenion.api.client import REPETITIONS, BrokenError, Client
from xenion.api.errors import ApiError, UnreachableError
from xenion.xm.calls import change, connected, look, on_each, replaced
from xenion.xm.errors import XmError


@pytest.fixture
def client(xend: FakeXend) -> Iterator[Client]:
    with connected() as made:
        yield made


def test_look(client: Client, xend: FakeXend) -> None:
    xend.answers["domain"] = Series([domain(), no_domain(), ApiError("failed", "odd")])
    assert look(client, "web") == domain()
    assert look(client, "web") is None
    with pytest.raises(ApiError, match="odd"):
        look(client, "web")


def test_a_change_is_answered(client: Client, xend: FakeXend) -> None:
    xend.answers["pause"] = {"a": 1}
    assert change(client, "pause", "web", done=lambda seen: False) == {"a": 1}


def test_a_change_is_seen_to_be_done(client: Client, xend: FakeXend) -> None:
    xend.answers.update(pause=Broken(), domain=domain(state="paused"))
    assert change(client, "pause", "web", done=lambda seen: seen["state"] == "paused") is None


def test_a_change_that_is_never_done(client: Client, xend: FakeXend) -> None:
    xend.answers.update(pause=Broken(), domain=domain())
    with pytest.raises(BrokenError):
        change(client, "pause", "web", done=lambda seen: False)
    assert len(xend.asked_for("pause")) == REPETITIONS


def test_what_may_be_asked_for_twice_is(client: Client, xend: FakeXend) -> None:
    xend.answers["configure_disk"] = Series([Broken(), {"a": 1}])
    assert replaced(client, "configure_disk", {"target": ""}, domain="web", vdev="hdc") == {"a": 1}
    assert [asked.body for asked in xend.asked_for("configure_disk")] == [{"target": ""}] * 2


def test_a_refusal_is_final(client: Client, xend: FakeXend) -> None:
    xend.answers["pause"] = no_domain()
    with pytest.raises(ApiError):
        change(client, "pause", "web", done=lambda seen: True)
    assert xend.actions() == ["pause"]


def fail(name: str) -> None:
    raise {"a": XmError("one"), "b": ApiError("failed", "two"), "c": UnreachableError("three")}[name]


def test_each_failure_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert on_each(["a", "b", "c"], fail) == 1
    assert capsys.readouterr().err == "xm: one\nxm: two\nxm: three\n"
    with pytest.raises(XmError, match="one"):
        on_each(["a"], fail)
    assert on_each(["x", "y"], lambda name: None) == 0


def test_a_xend_that_is_not_wanted_is_not_started(xend: FakeXend, tmp_path: object) -> None:
    xend.path.unlink()
    with connected(start=False) as client, pytest.raises(UnreachableError, match="xend does not run"):
        client.call("list")
