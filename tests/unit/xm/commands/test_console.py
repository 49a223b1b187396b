"""`xm console`; the tests of what happens at the console are in ../test_console.py."""

import pytest

from tests.unit.xm.conftest import Xm


@pytest.mark.parametrize("number", ["-2", "x", "1.5"])
def test_a_byte_has_a_number(xm: Xm, number: str) -> None:
    ran = xm("console", f"--since={number}", "web")
    assert ran.status == 2
    sentence = f'"{number}" is not a whole number from 0 on, nor -1 for only what comes from now on'
    assert sentence in ran.err
