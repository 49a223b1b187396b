from pathlib import Path

import pytest

from xenion.config.errors import ConfigError
from xenion.config.expression import literal
from xenion.config.values import Given, Kind, Value, converted


@pytest.mark.parametrize(
    ("kind", "value", "result"),
    [
        (Kind.TEXT, "a", "a"),
        (Kind.PATH, "/boot/vmlinuz", Path("/boot/vmlinuz")),
        (Kind.NUMBER, 12, 12),
        (Kind.NUMBER, "12", 12),
        (Kind.NUMBER, "0x10", 16),
        (Kind.NUMBER, "-1", -1),
        (Kind.DECIMAL, 1.5, 1.5),
        (Kind.DECIMAL, 256, 256),
        (Kind.DECIMAL, "256", 256),
        (Kind.FLAG, 0, False),
        (Kind.FLAG, True, True),
        (Kind.FLAG, "0", False),
        (Kind.FLAG, "1", True),
        (Kind.FLAG, "yes", True),
        (Kind.FLAG, "no", False),
        (Kind.ITEMS, ["a", 1], ("a", "1")),
        (Kind.ITEMS, (), ()),
        (Kind.ITEM_OR_ITEMS, 3, "3"),
        (Kind.ITEM_OR_ITEMS, "0-3", "0-3"),
        (Kind.ITEM_OR_ITEMS, ["2"], ("2",)),
        (Kind.ANY, 1.5, 1.5),
    ],
)
def test_converted(kind: Kind, value: Value, result: object) -> None:
    answer = converted("key", kind, value)
    assert answer == result
    assert type(answer) is type(result)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Kind.TEXT, 1),
        (Kind.TEXT, ["a"]),
        (Kind.PATH, ""),
        (Kind.PATH, "  "),
        (Kind.PATH, 1),
        (Kind.NUMBER, True),
        (Kind.DECIMAL, True),
        (Kind.DECIMAL, "abc"),
        (Kind.DECIMAL, [1.5]),
        (Kind.NUMBER, 1.0),
        (Kind.NUMBER, "abc"),
        (Kind.NUMBER, "010"),
        (Kind.NUMBER, "9" * 5000),
        (Kind.NUMBER, "\N{ARABIC-INDIC DIGIT ONE}"),
        (Kind.FLAG, 2),
        (Kind.FLAG, 1.0),
        (Kind.FLAG, "maybe"),
        (Kind.FLAG, [1]),
        (Kind.ITEMS, "a"),
        (Kind.ITEM_OR_ITEMS, True),
        (Kind.ITEM_OR_ITEMS, 1.5),
    ],
)
def test_a_mistyped_value_is_refused_with_its_key(kind: Kind, value: Value) -> None:
    with pytest.raises(ConfigError, match="some_key") as caught:
        converted("some_key", kind, value)
    assert caught.value.key == "some_key"


def test_relative_paths_start_at_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert converted("kernel", Kind.PATH, "boot/k") == tmp_path / "boot/k"


def test_a_lost_current_directory_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(ConfigError, match="directory is gone"):
        converted("kernel", Kind.PATH, "k")


def test_none_is_not_given() -> None:
    given = Given({"ramdisk": None, "root": "/dev/xvda1"})
    assert "ramdisk" not in given
    assert given.path("ramdisk") is None
    assert given.text("root", "other") == "/dev/xvda1"
    assert given.text("extra", "other") == "other"
    assert given.number("memory", 5) == 5
    assert given.item_or_items("cpus") == ""
    assert given.converted("acpi", Kind.FLAG) is None


@pytest.mark.parametrize("kind", list(Kind))
def test_examples_are_of_their_kind(kind: Kind) -> None:
    converted("key", kind, literal(kind.example))
