"""Lists of memory that one operation fills or sends."""

from collections.abc import Sequence


def skip(views: Sequence[memoryview], count: int) -> Sequence[memoryview]:
    """What is left of them after their first `count` bytes."""
    if not count:
        return views
    for index, view in enumerate(views):
        if count < len(view):
            return [view[count:], *views[index + 1 :]]
        count -= len(view)
    return []


def head(views: Sequence[memoryview], count: int) -> list[memoryview]:
    """Their first `count` bytes."""
    taken: list[memoryview] = []
    for view in views:
        if count <= len(view):
            return [*taken, view[:count]] if count else taken
        taken.append(view)
        count -= len(view)
    return taken


def zero(views: Sequence[memoryview]) -> None:
    for view in views:
        view[:] = bytes(len(view))
