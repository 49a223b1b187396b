"""What is printed is readable, and harmless to a terminal."""

import io

import pytest

from xenion.xm.output import duration, escaped, is_coloured, painted, print_fields


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é", "plain é"),
        ("\x1b[2J", "\\x1b[2J"),
        ("a\nb\tc", "a\\nb\\tc"),
        ("\u202etxt", "\\u202etxt"),
        ("\udc80", "\\udc80"),
        ("\x9b1m", "\\x9b1m"),
    ],
)
def test_control_characters_are_shown_as_escapes(text: str, shown: str) -> None:
    assert escaped(text) == shown


def test_some_may_be_kept() -> None:
    assert escaped("a\nb\x07", keep="\n") == "a\nb\\x07"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colours_are_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert painted("x", "red", Terminal()) == "\x1b[31mx\x1b[0m"
    assert painted("x", "", Terminal()) == "x"
    assert painted("x", "red", io.StringIO()) == "x"


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_or_for_none_who_want_none(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv(name, value)
    assert not is_coloured(Terminal())


def test_fields(capsys: pytest.CaptureFixture[str]) -> None:
    print_fields({"a": None, "b": {"c": True, "d": ["x", 1.26]}, "e": "", "f": []}, width=4)
    assert capsys.readouterr().out == "a    : -\nb.c  : yes\nb.d  : x\nb.d  : 1.3\ne    :\n"


def test_fields_of_objects_in_a_list(capsys: pytest.CaptureFixture[str]) -> None:
    print_fields({"a": [{"b": 1}, {"b": [{"c": 2}]}]}, width=8)
    assert capsys.readouterr().out == "a.0.b    : 1\na.1.b.0.c : 2\n"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0:00:00"), (3725.9, "1:02:05"), (86400, "1 day,  0:00:00"), (200000, "2 days,  7:33:20")],
)
def test_durations(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown
