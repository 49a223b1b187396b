from typing import Annotated, Any, Literal, NotRequired, TypedDict

import pytest

from xenion.api.types import Limit
from xenion.xend.web.schema import MismatchError, components, convert, field_schemas


class Sizes(TypedDict):
    name: Annotated[str, Limit(1, 4, "[a-z]+")]
    mode: NotRequired[Literal["fast", "slow"]]
    count: NotRequired[Annotated[int, Limit(0, 9)]]
    rest: NotRequired[dict[str, Any]]


class MoreSizes(Sizes):
    wait: NotRequired[Annotated[float, Limit(0, 60)]]
    live: NotRequired[bool]


@pytest.mark.parametrize(
    "value",
    [{"name": "a"}, {"name": "abcd", "mode": "slow", "count": 9}, {"name": "a", "rest": {"b": [{}]}}],
)
def test_what_fits_comes_out_as_it_is(value: Any) -> None:
    assert convert(value, Sizes) == value


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({}, "missing required field `name`"),
        ({"name": ""}, "`name`: expected `str` of length >= 1"),
        ({"name": "abcde"}, "length <= 4"),
        ({"name": "A"}, "matching"),
        ({"name": "a\n"}, "matching"),
        ({"name": "a", "mode": "other"}, "invalid enum value 'other'"),
        ({"name": "a", "count": 10}, "`count`: expected `int` <= 9"),
        ({"name": "a", "count": "1"}, "expected `int`, got `str`"),
        ({"name": "a", "count": True}, "expected `int`, got `bool`"),
        ({"name": "a", "count": None}, "got `null`"),
        ({"name": "a", "other": 1}, "unknown field `other`"),
        ([], "got `array`"),
    ],
)
def test_what_does_not_fit_is_named(value: Any, said: str) -> None:
    with pytest.raises(MismatchError) as caught:
        convert(value, Sizes)
    assert said in str(caught.value)


def test_json_has_one_kind_of_number() -> None:
    found = convert({"name": "a", "count": 7.0}, Sizes)
    assert type(found["count"]) is int
    for other in (7.5, 1e300):
        with pytest.raises(MismatchError):
            convert({"name": "a", "count": other}, Sizes)


def test_a_long_name_of_a_field_is_cut() -> None:
    with pytest.raises(MismatchError) as caught:
        convert({"name": "a", "x" * 10_000: 1}, Sizes)
    assert len(str(caught.value)) <= 300


def test_queries_come_as_text() -> None:
    value = {"name": "a", "count": "7", "wait": "1.5", "live": "True"}
    assert convert(value, MoreSizes, text=True) == {"name": "a", "count": 7, "wait": 1.5, "live": True}


def test_requests_know_no_other_fields_and_answers_may_grow() -> None:
    found = components([Sizes], [])["Sizes"]
    assert found["additionalProperties"] is False
    assert found["required"] == ["name"]
    assert found["properties"]["name"] == {
        "type": "string",
        "minLength": 1,
        "maxLength": 4,
        "pattern": "^(?:[a-z]+)$",
    }
    assert "additionalProperties" not in components([], [Sizes])["Sizes"]


def test_fields_of_a_query_include_inherited_ones() -> None:
    found = field_schemas(MoreSizes)
    assert set(found) == {"name", "mode", "count", "rest", "wait", "live"}
    assert found["wait"] == {"type": "number", "minimum": 0, "maximum": 60}
