"""Lists of the host's CPUs, and threads pinned to them."""

import os
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenion.api.errors import ApiError
from xenion.xend.scheduling import affinity
from xenion.xend.scheduling.affinity import parse, pin, shown


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has CPUs 0 to 3."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3})


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("", {0, 1, 2, 3}),
        ("all", {0, 1, 2, 3}),
        ("0", {0}),
        ("2,0", {0, 2}),
        ("0-3,^1", {0, 2, 3}),
        ("all,^0-1", {2, 3}),
        ("^1,0-1", {0, 1}),
        (" 0 - 1 , ^ 1 ", {0}),
        ("3-9", {3}),
        ("1-99999999999", {1, 2, 3}),
        ("0,77", {0}),
        ("1-1", {1}),
    ],
)
@pytest.mark.usefixtures("host")
def test_lists(text: str, cpus: set[int]) -> None:
    assert parse(text) == cpus


@pytest.mark.parametrize("text", ["x", "0-x", "-1", "1-", "0;1", "nodes:0", "0-1-2", "123456", "²", "0,^x"])
@pytest.mark.usefixtures("host")
def test_words_that_are_no_cpus(text: str) -> None:
    with pytest.raises(ApiError) as caught:
        parse(text)
    assert str(caught.value) == f'cpus "{text}" is no list of CPUs: write it as in "0-3,^1"'


@pytest.mark.parametrize("text", ["4", "4-7", "0,^0", "all,^all", "^1", "3-1"])
@pytest.mark.usefixtures("host")
def test_lists_of_none_of_the_hosts_cpus(text: str) -> None:
    with pytest.raises(ApiError) as caught:
        parse(text)
    said = f'cpus "{text}" has none of the host\'s CPUs, which are 0-3: name some of them'
    assert str(caught.value) == said


@pytest.mark.usefixtures("host")
def test_a_comma_too_many_names_no_cpu() -> None:
    with pytest.raises(ApiError):
        parse("0,")


@pytest.mark.usefixtures("host")
def test_only_ascii_digits_are_numbers() -> None:
    for text in ("\N{ARABIC-INDIC DIGIT ONE}", "0-\N{ARABIC-INDIC DIGIT ONE}"):
        with pytest.raises(ApiError):
            parse(text)


@pytest.mark.parametrize(
    ("cpus", "text"), [({0}, "0"), ({0, 1, 2}, "0-2"), ({0, 2, 3}, "0,2-3"), ({1, 3, 5}, "1,3,5"), ((), "")]
)
def test_they_are_shown_shortly(cpus: Iterable[int], text: str) -> None:
    assert shown(frozenset(cpus)) == text


@given(st.frozensets(st.integers(0, 300), min_size=1))
def test_what_is_shown_is_read_back(cpus: frozenset[int]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "sched_getaffinity", lambda pid: set(range(301)))
        assert parse(shown(cpus)) == cpus


@given(st.text("0123-^, al", max_size=12))
def test_any_text_is_a_list_or_refused(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3})
        try:
            cpus = parse(text)
        except ApiError:
            return
    assert cpus
    assert cpus <= {0, 1, 2, 3}


def test_all_threads_are_pinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pinned: dict[int, frozenset[int]] = {}

    def set_affinity(thread: int, cpus: frozenset[int]) -> None:
        if thread == 12:
            raise ProcessLookupError
        pinned[thread] = cpus

    monkeypatch.setattr(os, "sched_setaffinity", set_affinity)
    for thread in ("11", "12", "13"):
        (tmp_path / "11" / "task" / thread).mkdir(parents=True)
    affinity.pin(11, frozenset({1, 2}), tmp_path)
    assert pinned == {11: {1, 2}, 13: {1, 2}}, "without the one that has gone"


def test_what_cannot_be_pinned_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: int, cpus: frozenset[int]) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setaffinity", refuse)
    (tmp_path / "11" / "task" / "11").mkdir(parents=True)
    with pytest.raises(PermissionError):
        pin(11, frozenset({1}), tmp_path)
