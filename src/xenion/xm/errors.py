"""What a command can fail with; `main` prints the one sentence and exits with the status."""

from xenion.api.errors import ApiError, UnreachableError

REFUSED = frozenset({"bad-configuration", "does-not-fit", "refused", "bad-request", "already-exists"})
"""Codes of the API that mean: what was asked for is wrong, ask for something else."""


class XmError(Exception):
    """The command could not be done."""

    status = 1


class UsageError(XmError):
    """The command line or the configuration is wrong."""

    status = 2


class CancelledError(XmError):
    """The user has interrupted it."""

    status = 130


EXPECTED = (XmError, ApiError, UnreachableError)
"""What is told in a sentence; anything else is a bug of ours."""


def status_of(error: Exception) -> int:
    """The exit status for one of EXPECTED."""
    if isinstance(error, XmError):
        return error.status
    if isinstance(error, ApiError) and error.code in REFUSED:
        return UsageError.status
    return XmError.status
