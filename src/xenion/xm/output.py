"""What xm prints: nothing from a guest or a stranger reaches a terminal as a control character."""

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TextIO

COLOURS = {"red": 31, "green": 32, "yellow": 33, "dim": 2, "bold": 1}


def escaped(text: str, keep: str = "") -> str:
    """Whatever is not printable as Python's escapes, but for the characters in `keep`."""
    if text.isprintable():
        return text
    return "".join(
        character
        if character.isprintable() or character in keep
        else character.encode("unicode_escape", "surrogatepass").decode("ascii")
        for character in text
    )


def complain(text: str) -> None:
    """One sentence for the user, on standard error."""
    print(f"xm: {escaped(text)}", file=sys.stderr)


def remark(result: Any) -> None:
    """What there is to say about what was done, on standard error."""
    for text in result.get("remarks", []):
        complain(text)


def print_json(value: Any) -> None:
    import json

    print(json.dumps(value, indent=2))


def is_coloured(stream: TextIO) -> bool:
    """A terminal whose user has not asked for none (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def painted(text: str, colour: str, stream: TextIO | None = None) -> str:
    """`text` in a colour where there are colours; "" is none."""
    if not colour or not is_coloured(stream or sys.stdout):
        return text
    return f"\x1b[{COLOURS[colour]}m{text}\x1b[0m"


def print_fields(fields: Mapping[str, Any], width: int = 22) -> None:
    """Classic xm's `name : value` lines; what is nested is named `outer.inner`, a list has a line an item.

    Objects in a list are named by their place, `outer.0.inner`.
    """
    for name, value in _flat(fields):
        print(f"{escaped(name):<{width}} : {escaped(_text(value))}".rstrip())


def _flat(fields: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in fields.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, Sequence) and not isinstance(value, str):
            for place, item in enumerate(value):
                nested = isinstance(item, Mapping)
                yield from _flat(item, f"{prefix}{name}.{place}.") if nested else [(f"{prefix}{name}", item)]
        else:
            yield f"{prefix}{name}", value


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.1f}" if isinstance(value, float) else str(value)


def duration(seconds: float) -> str:
    """As `uptime` tells it: `2 days,  3:04:05`."""
    days, rest = divmod(int(seconds), 86400)
    clock = f"{rest // 3600}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{days} day{'s' if days > 1 else ''}, {clock:>8}" if days else clock


def moment(seconds: float) -> str:
    """A time since the epoch, in local time."""
    import time

    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
