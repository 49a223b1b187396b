"""Codes have statuses that tell whose fault it is."""

from xenion.api.errors import STATUSES, ApiError


def test_codes_and_statuses() -> None:
    assert ApiError("does-not-fit", "no").status == 409
    assert ApiError("failed", "no").status == 500
    assert ApiError("of-the-future", "no").status == 500
    assert str(ApiError("refused", "why")) == "why"
    assert [code for code, status in STATUSES.items() if status >= 500] == ["failed"]
