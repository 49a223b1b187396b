"""The generated page: a row a hypercall, a table that Markdown can read."""

from xenion.vmm.hypercalls import TABLE
from xenion.vmm.hypercalls.support import HEADER, page, rows


def test_a_row_for_each() -> None:
    assert len(list(rows())) == len(TABLE)
    assert page().startswith(HEADER)


def test_cells() -> None:
    columns = HEADER.splitlines()[-1].count("|")
    assert all(row.count("|") == columns for row in rows())
