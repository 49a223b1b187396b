"""The bench runs, on a store that is small."""

import re

import pytest

from benches import xenstore


def test_every_row_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert xenstore.main(["--count", "64", "--runs", "1", "--nodes", "300"]) in (0, 1)
    *rows, target = capsys.readouterr().out.splitlines()
    assert len(rows) == 37
    assert all(re.fullmatch(r".{58,} +[0-9,]+/s +[0-9.]+ us", row) for row in rows)
    assert target.startswith("target: 20,000/s where the daemon is kept busy: ")
