"""What is known of one key of a configuration file."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from xenion.config.values import Kind, Value


class Status(Enum):
    """What Xenion does with a key."""

    ACTED = "acted on"
    ACCEPTED = "not supported yet"


@dataclass(frozen=True, slots=True)
class Key:
    """One key. `default` None means that the key has none, `choices` () that any value of the kind will do.

    `reason` and `neutral` are for keys that are accepted: the end of their note, and the values that ask for
    nothing, beside the empty ones (0, "", [], None).
    """

    name: str
    kind: Kind
    status: Status
    doc: str
    default: Value = None
    example: str = ""
    choices: tuple[str, ...] = ()
    reason: str = ""
    neutral: tuple[Value, ...] = ()

    @property
    def note(self) -> str:
        """What the user is told about a value that has no effect."""
        return f"{self.name}: not supported yet" + (f": {self.reason}" if self.reason else "")


def acted(
    name: str, kind: Kind, default: Value, example: str, doc: str, choices: tuple[str, ...] = ()
) -> Key:
    """A key that is acted on; `example` is a value as one writes it in a file."""
    return Key(name, kind, Status.ACTED, doc, default, f"{name} = {example}", choices)
