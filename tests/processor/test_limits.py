"""The page on processors and the rows of what they cannot show belong together."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.guest.limits import CHECKS
from tests.processor.kit.limits import LIMITS, PAGE, in_page


def test_the_page_has_the_rows() -> None:
    text = PAGE.read_text()
    assert text == in_page(text), "renew it: python -m tests.processor.kit.limits"


def test_every_row_has_a_test(request: pytest.FixtureRequest) -> None:
    """One that must fail: a row without it would be a claim."""
    items = request.session.items
    files = set(Path(__file__).parent.glob("test_*.py"))
    if files - {item.path for item in items}:
        pytest.skip("it needs the whole suite")
    marked = {mark.args[0] for item in items for mark in item.iter_markers("limit")}
    assert marked | set(CHECKS) == set(LIMITS)
