"""`xm destroy`."""

import pytest

from tests.unit.xm.conftest import Xm
from tests.unit.xm.fake_xend import Broken, FakeXend, Series, domain, no_domain


def test_several_end(xm: Xm, xend: FakeXend) -> None:
    xend.answers["destroy"] = {}
    ran = xm("destroy", "web", "3")
    assert (ran.status, ran.out, ran.err) == (0, "", "")
    assert [asked.parameters["domain"] for asked in xend.asked] == ["web", "3"]


def test_one_that_is_not_there(xm: Xm, xend: FakeXend) -> None:
    xend.answers["destroy"] = no_domain()
    ran = xm("destroy", "web")
    assert (ran.status, ran.err) == (1, 'xm: there is no domain of the name "web"\n')


def test_the_others_are_tried_too(xm: Xm, xend: FakeXend) -> None:
    xend.answers["destroy"] = Series([no_domain("a"), {}, no_domain("c")])
    ran = xm("destroy", "a", "b", "c")
    assert ran.status == 1
    assert ran.err.count("xm: there is no domain") == 2
    assert len(xend.asked) == 3


@pytest.mark.parametrize("after", [no_domain(), domain(domid=None, state="defined")])
def test_the_connection_breaks_when_it_is_done(xm: Xm, xend: FakeXend, after: object) -> None:
    xend.answers.update(destroy=Broken(), domain=after)
    ran = xm("destroy", "web")
    assert (ran.status, ran.err) == (0, "")
    assert xend.actions() == ["destroy", "domain"]


def test_the_connection_breaks_for_ever(xm: Xm, xend: FakeXend) -> None:
    xend.answers.update(destroy=Broken(), domain=domain())
    ran = xm("destroy", "web")
    assert ran.status == 1
    assert ran.err.startswith("xm: the connection to xend broke before its answer")
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], 'the following arguments are required: DOM; see "xm destroy -h"'),
        ([""], 'argument DOM: give a domain\'s name, id or UUID; see "xm destroy -h"'),
        (["--odd", "web"], 'unrecognized arguments: --odd; see "xm destroy -h"'),
    ],
)
def test_wrong_usage(xm: Xm, words: list[str], said: str) -> None:
    ran = xm("destroy", *words)
    assert (ran.status, ran.out, ran.err) == (2, "", f"xm: {said}\n")


def test_a_path_in_a_name_is_no_path(xm: Xm, xend: FakeXend) -> None:
    xend.answers["destroy"] = {}
    xm("destroy", "../etc?x=1")
    assert xend.asked[0].parameters == {"domain": "../etc?x=1"}
