"""Arguments are understood wherever they stand, or refused in one sentence."""

import argparse

import pytest

from xenion.xm.arguments import command, domain_argument, domain_word, natural, overrides, parse, seconds
from xenion.xm.errors import UsageError


def test_options_anywhere_among_the_arguments() -> None:
    p = command("odd", "do odd things")
    p.add_argument("-v", action="store_true")
    domain_argument(p)
    p.add_argument("more", nargs="*")
    args = parse(p, ["web", "-v", "a", "b"])
    assert (args.domain, args.v, args.more) == ("web", True, ["a", "b"])
    with pytest.raises(UsageError, match=r'^unrecognized arguments: -x; see "xm odd -h"$'):
        parse(p, ["web", "-x"])


@pytest.mark.parametrize("word", ["", "-1", "1.5", "x", "\u0664"])
def test_what_is_no_number(word: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is not a whole number from 0 on"):
        natural(word)


@pytest.mark.parametrize("word", ["", "0", "-1", "nan", "inf", "86401", "x"])
def test_what_is_no_time(word: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is not a number of seconds"):
        seconds(word)


def test_what_is_one() -> None:
    assert (natural("12"), seconds("0.5"), domain_word("web")) == (12, 0.5, "web")


def test_overrides() -> None:
    assert overrides(["a=b=c", "d="]) == {"a": "b=c", "d": ""}
    with pytest.raises(UsageError, match='"a" is not NAME=VALUE'):
        overrides(["a"])
