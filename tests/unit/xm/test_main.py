"""Commands are found by name or beginning, and every way to fail has its status."""

import pytest

from xenion.xm import main
from xenion.xm.errors import UsageError, XmError


def test_the_commands_are_the_files() -> None:
    assert {"create", "help", "version"} <= set(main.names())
    for name in main.names():
        command = main.load(name)
        assert command.SUMMARY
        assert callable(command.run)


@pytest.mark.parametrize(("word", "name"), [("create", "create"), ("cr", "create"), ("h", "help")])
def test_a_beginning_will_do(word: str, name: str) -> None:
    assert main.find(word) == name


def test_a_whole_name_wins_over_longer_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "names", lambda: ["list", "list-more"])
    assert main.find("list") == "list"
    with pytest.raises(UsageError, match='"li" may mean list, list-more: write more of it'):
        main.find("li")


@pytest.mark.parametrize(("word", "hint"), [("craete", 'did you mean "create"\\?'), ("zzz", 'see "xm help"')])
def test_an_unknown_word_is_answered_with_a_hint(word: str, hint: str) -> None:
    with pytest.raises(UsageError, match=f'there is no command "{word}"; {hint}'):
        main.find(word)


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (UsageError("wrong"), 2, "xm: wrong\n"),
        (XmError("failed"), 1, "xm: failed\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_failures_become_a_sentence_and_a_status(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    status: int,
    said: str,
) -> None:
    def fail(argv: list[str]) -> int:
        raise error

    monkeypatch.setattr(main.load("help"), "run", fail)
    assert main.main(["help"]) == status
    assert capsys.readouterr() == ("", said)


@pytest.mark.parametrize("words", [[], ["-h"], ["--help"]])
def test_help_is_what_no_words_mean(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(words) == 0
    assert capsys.readouterr().out.startswith("usage: xm COMMAND")
