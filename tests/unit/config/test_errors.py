import pytest

from xenion.config.errors import ConfigError, shown


def test_the_place_stands_before_the_sentence() -> None:
    assert str(ConfigError("memory is bad", key="memory", where="a.cfg:1:2")) == "a.cfg:1:2: memory is bad"
    assert str(ConfigError("memory is bad", key="memory")) == "memory is bad"


def test_at_gives_a_place_once() -> None:
    error = ConfigError("memory is bad", key="memory").at("a.cfg:1:2")
    assert error.at("b.cfg:9:9").where == "a.cfg:1:2"
    assert (error.key, error.sentence) == ("memory", "memory is bad")


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("a\nb\x1b[2J", r"'a\nb\x1b[2J'"),
        (1 << 40, "1099511627776"),
        (None, "a NoneType"),
        ([1], "a list"),
        ("x" * 1000, "'" + "x" * 55 + "...'"),
    ],
)
def test_shown_is_one_short_printable_line(value: object, sentence: str) -> None:
    assert shown(value) == sentence
    assert len(sentence) <= 60
