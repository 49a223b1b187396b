"""What stands between a terminal and a console on another host; over a real xend in tests/system/test_api.py."""

import pytest

from xenion.api.console import ConsoleError
from xenion.xm import relay


def test_the_first_line() -> None:
    assert relay._beginning('{"first": 7, "lost": 3}') == (7, 3)


@pytest.mark.parametrize(
    "line", ["", "hello", "[]", "7", '{"first": 7}', '{"first": "x", "lost": 0}', "[" * 60_000]
)
def test_something_else_answers(line: str) -> None:
    with pytest.raises(ConsoleError, match="no console"):
        relay._beginning(line)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [(b'{"error": {"message": "not now"}}', "not now"), (b"<html>", "refuses"), (b"[]", "refuses")],
)
def test_refusals(body: bytes, sentence: str) -> None:
    assert sentence in relay._sentence(body)
