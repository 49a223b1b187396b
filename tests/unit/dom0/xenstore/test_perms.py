"""Permission entries."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenion.dom0.xenstore.errors import StoreError
from xenion.dom0.xenstore.perms import READ, WRITE, Perm, access_of, parse_perm


@given(st.integers(0, 65535), st.sampled_from("nrwb"))
def test_an_entry_survives_parsing_and_writing(domid: int, letter: str) -> None:
    assert str(parse_perm(f"{letter}{domid}")) == f"{letter}{domid}"


@pytest.mark.parametrize(
    "text",
    ["", "r", "5", "x5", "r-1", "r 5", "r5 ", "r+5", "r0x5", "r65536", "r\u0665", "r5\n", "R5", "r999999"],
)
def test_bad_entries(text: str) -> None:
    with pytest.raises(StoreError) as caught:
        parse_perm(text)
    assert caught.value.name == "EINVAL"


def test_who_may_do_what() -> None:
    perms = (Perm(0, READ), Perm(5, WRITE), Perm(6, 0), Perm(5, READ))
    assert access_of(perms, 0) == READ | WRITE
    assert access_of(perms, 5) == WRITE
    assert access_of(perms, 6) == 0
    assert access_of(perms, 7) == READ
