"""The judge of probe output must not be fooled by silence."""

from __future__ import annotations

from tests.guest.tap import complaints


def test_all_planned_checks_passed() -> None:
    assert complaints("booting\r\n1..2\r\nok a\r\n# note\r\nok b # SKIP reason\r\n") == []


def test_silence_fails() -> None:
    assert complaints("") != []


def test_a_missing_line_fails() -> None:
    assert complaints("1..2\nok a\n") == ["planned 2 checks, 1 reported"]


def test_a_failure_is_quoted() -> None:
    assert complaints("1..1\nFAIL a got 1 want 2\n") == ["FAIL a got 1 want 2"]


def test_a_name_counts_once() -> None:
    assert complaints("1..2\nok a\nok a\n") == ["a: reported twice", "planned 2 checks, 1 reported"]
