"""Tasks of xend: waited for, shown on a terminal, cancelled by ctrl-C."""

import os
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

from xenion.api.actions import BY_NAME
from xenion.api.client import REPEATABLE, REPETITIONS, BrokenError, Client, path_of
from xenion.api.errors import ApiError
from xenion.xm.errors import CancelledError
from xenion.xm.output import escaped

BAR = 24
ERASE = "\r\x1b[K"


class ProgressLine:
    """One line of standard error that is drawn over and over, on a terminal only."""

    def __init__(self) -> None:
        self._shows = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._drawn = False

    def show(self, task: Any) -> None:
        if self._shows:
            sys.stderr.write(ERASE + line_of(task)[: _columns() - 1])
            sys.stderr.flush()
            self._drawn = True

    def clear(self) -> None:
        if self._drawn:
            sys.stderr.write(ERASE)
            sys.stderr.flush()
            self._drawn = False


def line_of(task: Any) -> str:
    """What is shown of a task."""
    text = escaped(f"{task['action']} {task['domain']}: {task['step'] or 'begins'}")
    if task["progress"] is None:
        return text
    part = min(max(float(task["progress"]), 0.0), 1.0)
    return f"{text} [{'#' * round(part * BAR):<{BAR}}] {part:4.0%}"


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except OSError:
        return 80


@contextmanager
def shown() -> Iterator[ProgressLine]:
    """A line that is gone afterwards."""
    line = ProgressLine()
    try:
        yield line
    finally:
        line.clear()


Look = Callable[[Any], None]


def follow(client: Client, task: Any, look: Look = lambda task: None) -> Any:
    """The task as it ended; ApiError. `look` sees each change. An interruption leaves it alone."""
    with shown() as line:

        def show(task: Any) -> None:
            line.clear()
            look(task)
            line.show(task)

        return client.follow(task, show)


def accomplish(
    client: Client,
    action: str,
    body: Mapping[str, Any] | None = None,
    look: Look = lambda task: None,
    /,
    **parameters: str,
) -> dict[str, Any]:
    """The result of an action that is a task, done to its end. ApiError; CancelledError: ctrl-C cancelled it.

    A xend that was restarted meanwhile knows the task no more: what has a `request` word is asked for again.
    """
    word = {"request": secrets.token_hex(16)} if action in REPEATABLE else {}
    path = path_of(BY_NAME[action], parameters)
    client.reach()  # an interruption until here needs no cancelling
    for attempt in range(REPETITIONS):
        last = not word or attempt == REPETITIONS - 1
        try:
            return dict(_ended(client, path, {**(body or {}), **word}, look)["result"])
        except BrokenError:
            if last:
                raise
        except ApiError as error:
            if error.code != "no-such-task" or last:
                raise
    raise AssertionError("no attempt was made")


def _ended(client: Client, path: str, body: Mapping[str, Any], look: Look) -> Any:
    """The task as it ended. ctrl-C cancels it, even before its id is known: its request's repetition finds the same."""
    task, repeat = None, "request" in body
    try:
        task = client.request("POST", path, body, repeat=repeat)
        return follow(client, task, look)
    except KeyboardInterrupt:
        client.close()  # an answer may be half read
        if task is None and not repeat:
            raise
        _cancel(client, task or client.request("POST", path, body, repeat=True))


def _cancel(client: Client, task: Any) -> NoReturn:
    """CancelledError, ApiError."""
    ended = client.call("cancel", task=task["id"])
    what = f"{task['action']} of {task['domain']}"
    if ended["state"] == "done":
        raise CancelledError(f"{what} was done before it could be cancelled") from None
    raise CancelledError(f"{what} was cancelled") from None
