import re
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import pytest

from xenion.api import reference, types
from xenion.api.actions import ACTIONS
from xenion.api.errors import STATUSES
from xenion.api.reference import docstrings, fields_of, page

DOCUMENT = Path(__file__).parents[3] / "docs" / "api.md"


def _row(name: str, text: str | None = None) -> str:
    """The table row of a field, within the section `text`."""
    (row,) = re.findall(rf"^\| `{name}` \|.*$", page() if text is None else text, re.MULTILINE)
    return str(row)


def _section(heading: str) -> str:
    return page().partition(f"\n{heading}\n")[2].partition("\n##")[0]


def test_the_document_is_up_to_date() -> None:
    """Mend it with: python -m xenion.api.reference > docs/api.md."""
    assert DOCUMENT.read_text() == page()


def test_every_action_has_a_row_and_a_section() -> None:
    for action in ACTIONS:
        assert page().count(f"| [{action.name}](#{action.name}) | `{action.method} {action.path}` |") == 1
        assert f"`{action.method} {action.path}`" in _section(f"### {action.name}")


def test_every_link_within_the_page_leads_to_one_heading() -> None:
    headings = [
        re.sub(r"[^\w -]", "", line.lstrip("# ")).replace(" ", "-").lower()
        for line in re.findall(r"^#+ .*$", page(), re.MULTILINE)
    ]
    assert len(set(headings)) == len(headings)
    links = re.findall(r"\]\(#([^)]*)\)", page())
    assert links
    assert set(links) <= set(headings)


def test_every_field_of_an_answer_is_told_with_its_docstring() -> None:
    for name, field in (("Domain", "folder"), ("Outcome", "reason"), ("Task", "seen")):
        assert docstrings()[name][field].split("\n")[0] in _row(field, _section(f"### Type {name}"))


def test_every_code_has_its_status() -> None:
    for code, status in STATUSES.items():
        assert f"| `{code}` | {status} |" in _section("## Refusals")


def test_a_field_that_may_be_left_out_is_not_needed() -> None:
    create = _section("### create")
    assert _row("config", create).startswith("| `config` | object | yes |")
    assert _row("paused", create).startswith("| `paused` | true or false | no |")


def test_fields_of_a_base_come_with_their_texts() -> None:
    wait, seen = fields_of(types.TaskQuery)
    assert (wait.name, seen.name) == ("wait", "seen")
    assert wait.text == docstrings()["WaitQuery"]["wait"] != ""


def test_a_field_has_the_text_of_its_type() -> None:
    assert "over, and preserved" in _row("state", _section("### Type Domain"))


class Sample(TypedDict):
    word: Annotated[str, types.Limit(1, 8, "a|b")]
    key: Annotated[str, types.Limit(1, 1)]
    count: NotRequired[Annotated[int, types.Limit(0, 1 << 53)]]
    mode: Literal["on", "off"]
    parts: list[types.Vcpu]
    either: types.Failure | None
    whatever: dict[str, Any]


def test_types_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "docstrings", lambda: {"Sample": {}})
    assert {field.name: field.type for field in fields_of(Sample)} == {
        "word": r"text of 1 to 8 characters, `a\|b`",
        "key": "text of 1 character",
        "count": "whole number, 0 to 2^53",
        "mode": "`on`, `off`",
        "parts": "list of [`Vcpu`](#type-vcpu)",
        "either": "[`Failure`](#type-failure) or null",
        "whatever": "object",
    }
    assert [field.needed for field in fields_of(Sample)] == [True, True, False, True, True, True, True]


def test_the_words_are_jsons() -> None:
    assert "None" not in page()
    assert "null: each domain has a store of its own" in _row("xenstore_socket")
