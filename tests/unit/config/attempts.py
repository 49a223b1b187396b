"""Reading what may be good or bad."""

from collections.abc import Callable
from typing import TypeVar

from xenion.config.errors import ConfigError

T = TypeVar("T")


def attempt(read: Callable[[], T], key: str | None = None) -> T | None:
    """What `read` returns, or None if it is refused: with one sentence, and about `key`."""
    try:
        return read()
    except ConfigError as error:
        refused = error
    assert "\n" not in str(refused)
    assert key in (None, refused.key)
    return None
