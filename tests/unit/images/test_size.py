"""Sizes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenion.images.size import MOST_BYTES, STEP_BYTES, SizeError, parse, shown


@pytest.mark.parametrize(
    ("text", "size"),
    [("2G", 2 << 30), ("1536M", 1536 << 20), ("1536m", 1536 << 20), ("2GiB", 2 << 30), ("1T", 1 << 40)],
)
def test_units(text: str, size: int) -> None:
    assert parse(text) == size


def test_a_number_alone_is_bytes_rounded_up() -> None:
    assert parse("1") == STEP_BYTES
    assert parse(str(STEP_BYTES + 1)) == 2 * STEP_BYTES


@pytest.mark.parametrize("text", ["", "0", "-1", "2X", "G", "1.5G", "2 G", "0G", "٣G", "1" * 40])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(SizeError, match="is no size"):
        parse(text)


def test_the_largest() -> None:
    assert parse(str(MOST_BYTES - STEP_BYTES)) == MOST_BYTES - STEP_BYTES
    with pytest.raises(SizeError, match="too large"):
        parse("16T")


@given(st.text(max_size=12))
def test_any_text_is_a_size_or_an_error(text: str) -> None:
    try:
        size = parse(text)
    except SizeError:
        return
    assert 0 < size < MOST_BYTES
    assert size % STEP_BYTES == 0


def test_shown() -> None:
    assert shown(5 << 20) == "5 MiB"
    assert shown((5 << 20) + 1) == "6 MiB"
    assert shown(3 << 29) == "1.5 GiB"
