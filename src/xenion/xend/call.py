"""One call of an action, as it comes out of the web layer, and what answers it."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Peer:
    """Who calls: for the log, and for nothing else. Whoever reaches the API may use all of it."""

    who: str


@dataclass(frozen=True, slots=True)
class Call:
    """`parameters` are from the path, `body` and `query` checked against the action's types."""

    peer: Peer
    parameters: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)
    query: Mapping[str, Any] = field(default_factory=dict)


Handler = Callable[[Call], Awaitable[Any]]
"""Answers with what the action's `result` describes, or raises ApiError. `events`: with an asynchronous iterator of
entries that has `aclose`. `console`: with the path of the domain's console socket."""

Handlers = Mapping[str, Handler]
"""By the action's name."""
