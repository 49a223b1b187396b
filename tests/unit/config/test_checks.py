from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import pytest

from xenion.config.checks import check_path, check_range, members, plain, truth, within
from xenion.config.errors import ConfigError


class Colour(StrEnum):
    RED = "red"


@dataclass(frozen=True)
class Inner:
    path: Path
    colour: Colour = Colour.RED


@dataclass(frozen=True)
class Outer:
    name: str
    inner: tuple[Inner, ...] = ()


def test_plain_is_what_json_has() -> None:
    outer = Outer("a", (Inner(Path("/x")),))
    assert plain(outer) == {"name": "a", "inner": [{"path": "/x", "colour": "red"}]}


def test_members_of_a_json_object() -> None:
    assert members(Outer, "an outer", {"name": 1}) == {"name": 1, "inner": []}
    for values, sentence in (
        ([], "an outer must be a JSON object, not a list"),
        ({}, "name is missing from an outer: give it"),
        ({"name": "a", "x\n": 1}, r"'x\\n' is not a key of an outer: remove it"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            members(Outer, "an outer", values)


def test_an_error_within_something() -> None:
    with pytest.raises(ConfigError) as caught, within("disk", "disk 3"):
        check_range("limit", 5, 6, 7)
    assert (caught.value.key, str(caught.value)) == ("disk", "disk 3: limit must be from 6 to 7, not 5")


def test_paths() -> None:
    check_path("kernel", "/" + "x" * 4094)
    for path, sentence in (
        ("/" + "x" * 4095, "4095 bytes"),
        ("x", "absolute"),
        ("/\0", "zero"),
        ("/\ud800", "UTF-8"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            check_path("kernel", path)


def test_truth_is_no_number() -> None:
    assert truth("overlay", True)
    with pytest.raises(ConfigError, match="overlay must be true or false, not 1"):
        truth("overlay", 1)
