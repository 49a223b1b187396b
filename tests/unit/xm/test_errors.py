"""Each way to fail has its exit status."""

import pytest

from xenion.api.errors import STATUSES, ApiError, UnreachableError
from xenion.xm.errors import REFUSED, CancelledError, UsageError, XmError, status_of


def test_the_codes_are_the_apis() -> None:
    assert set(STATUSES) > REFUSED


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (XmError("x"), 1),
        (UsageError("x"), 2),
        (CancelledError("x"), 130),
        (UnreachableError("x"), 1),
        (ApiError("failed", "x"), 1),
        (ApiError("no-such-domain", "x"), 1),
        (ApiError("does-not-fit", "x"), 2),
        (ApiError("refused", "x"), 2),
    ],
)
def test_statuses(error: Exception, status: int) -> None:
    assert status_of(error) == status
