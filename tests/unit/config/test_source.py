import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenion.config.errors import ConfigError
from xenion.config.source import TEXT_BYTES, WORDS, Source, statements


@pytest.mark.parametrize(
    ("text", "where", "sentence"),
    [
        ("a = 1\nb = (", "f.cfg:2:5", "never closed"),
        ("a = 1\nb c", "f.cfg:2:3", "invalid syntax"),
        ("é = 'é' b", "f.cfg:1:9", "invalid syntax"),
        ("  a = 1", "f.cfg:1:", "unexpected indent"),
        ("a = 'x\n", "f.cfg:1:5", "unterminated string"),
        ("a = 1\nb = '\0'", "f.cfg:2:6", "zero byte"),
        ("a = 1\nb = '\ud800'", "f.cfg:2:6", "UTF-8"),
        ("a = " + "(" * 300, "f.cfg:1:", "too many nested parentheses"),
        ("a = " + "-" * 100_000 + "1", "f.cfg:1:1", "words and signs"),
        ("a = " + "-" * 90_000 + "1", "f.cfg:1:1", "nested too deeply"),
        ("a = " + "1+" * 40_000 + "1", "f.cfg:1:1", "nested too deeply"),
        ("a" + ".b" * 40_000, "f.cfg:1:1", "nested too deeply"),
        ("a = " + "not " * 90_000 + "1", "f.cfg:1:1", "nested too deeply"),
        ("a = " + "9" * 5000, "f.cfg:1:", "4300 digits[^;]*$"),
        ("#" * TEXT_BYTES + "#", "f.cfg:1:1", f"over {TEXT_BYTES} bytes"),
        ("#" + "é" * (TEXT_BYTES // 2), "f.cfg:1:1", f"over {TEXT_BYTES} bytes"),
        ("a\n" * (WORDS + 1), "f.cfg:1:1", "words and signs"),
    ],
)
def test_what_is_no_configuration_has_its_place(text: str, where: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence) as caught:
        statements(Source(text, "f.cfg"))
    # Where Python's parser sees some errors differs from version to version: those end in the line.
    assert (caught.value.where or "").startswith(where)
    assert "\n" not in str(caught.value)


def test_the_biggest_file_is_read() -> None:
    assert statements(Source("#" + "x" * (TEXT_BYTES - 1), "f.cfg")) == []


def test_warnings_of_the_parser_are_not_the_users() -> None:
    assert len(statements(Source(r"a = '\d'; b = 1if 1else 2", "f.cfg"))) == 2


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_columns_count_characters(line_end: str) -> None:
    source = Source(f"a = 1{line_end}b = 'üü'; c = 3", "f.cfg")
    assert [source.place(node) for node in statements(source)] == ["f.cfg:1:1", "f.cfg:2:1", "f.cfg:2:11"]


def test_a_strange_file_name_is_shown_escaped() -> None:
    assert Source("", "a\x1b\n").at(1, 2) == r"'a\x1b\n':1:2"


@given(st.text())
def test_random_text_raises_nothing_else(text: str) -> None:
    source = Source(text, "f.cfg")
    with contextlib.suppress(ConfigError):
        assert all(source.place(node).startswith("f.cfg:") for node in statements(source))
