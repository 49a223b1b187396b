"""Strings and numbers in requests."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenion.dom0.xenstore import payload
from xenion.dom0.xenstore.errors import StoreError


def test_one_string() -> None:
    assert payload.only_string(b"a/\xff\0") == "a/\xff"
    for wrong in (b"", b"a", b"a\0b\0", b"\0\0"):
        with pytest.raises(StoreError, match="EINVAL"):
            payload.only_string(wrong)


def test_as_many_as_there_must_be() -> None:
    assert payload.strings(b"a\0b\0reserved", 2) == [b"a", b"b"]
    assert payload.strings(b"", 0, 1) == []
    assert payload.strings(b"a\0b\0c\0", 2, 3) == [b"a", b"b", b"c"]
    for wrong in (b"a\0", b"a\0b\0c\0d\0"):
        with pytest.raises(StoreError, match="EINVAL"):
            payload.strings(wrong, 2, 3)


def test_numbers() -> None:
    assert (payload.number(b"007", 10), payload.domid("65535")) == (7, 65535)
    for wrong in (b"", b"-1", b"+1", b"1 ", b"0x1", "\u0661", b"65536", b"9" * 100):
        with pytest.raises(StoreError, match="EINVAL"):
            payload.domid(wrong)


@given(st.binary(max_size=40))
def test_what_is_reserved_is_ignored(raw: bytes) -> None:
    found = payload.all_strings(raw)
    assert b"".join(string + b"\0" for string in found) == raw[: raw.rfind(b"\0") + 1]
