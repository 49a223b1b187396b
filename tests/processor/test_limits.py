"""The page on processors and the rows of what they cannot show belong together."""

from __future__ import annotations

import re
from pathlib import Path

from tests.processor.kit.limits import LIMITS, PAGE, in_page


def test_the_page_has_the_rows() -> None:
    text = PAGE.read_text()
    assert text == in_page(text), "renew it: python -m tests.processor.kit.limits"


def test_every_row_has_a_test() -> None:
    """Which must fail: a row without one would be a claim."""
    used = set[str]()
    for path in Path(__file__).parent.glob("test_*.py"):
        text = path.read_text()
        used |= set(re.findall(r'limit\("(\w+)"\)', text)) | set(
            re.findall(r'^    "\w+": "(\w+)",', text, re.M)
        )
        used |= {value for value in LIMITS if "RUN_ANYWAY = {" in text and f'"{value}"' in text}
    assert used >= set(LIMITS)
