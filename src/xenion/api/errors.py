"""What the API answers when it refuses: a code for programs, one sentence for people."""

STATUSES = {
    "bad-request": 400,
    "bad-configuration": 400,
    "unauthorized": 401,
    "forbidden": 403,
    "not-found": 404,
    "no-such-domain": 404,
    "no-such-task": 404,
    "no-such-device": 404,
    "no-such-checkpoint": 404,
    "method-not-allowed": 405,
    "timeout": 408,
    "already-exists": 409,
    "wrong-state": 409,
    "does-not-fit": 409,
    "refused": 409,
    "too-large": 413,
    "too-many": 429,
    "failed": 500,
}
"""Code -> HTTP status. `refused`: the domain could not be built; `failed`: something of the host's or ours broke."""


class ApiError(Exception):
    """A refusal; `code` is one of STATUSES."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    @property
    def status(self) -> int:
        return STATUSES.get(self.code, 500)


class UnreachableError(Exception):
    """xend cannot be reached or started; the message says where and what to do."""
