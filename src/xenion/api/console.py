"""How one attaches to a domain's console: a stream socket, one JSON line each way, then raw bytes both ways.

The client says `{"since": N, "read_only": false}`: N is the number of the first byte it wants (the first byte that the
guest ever wrote is number 0), null for all that is kept, -1 for what comes from now on. The answer is
`{"first": N, "lost": M}`: the number of the byte that follows, and how many between `since` and it are not kept any
more; or `{"error": SENTENCE}`. The far end closes when the domain's process ends, or when the client has taken nothing
for so long that the guest had to wait for it; it may attach again where it was.
"""

import json
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xenion.api.addresses import connect

LINE_BYTES = 4096
GREETING_S = 10.0


class ConsoleError(Exception):
    """The console cannot be attached to; the message says why."""


@dataclass(frozen=True, slots=True)
class Attached:
    """`first`: the number of the next byte that `stream` gives; `lost`: bytes before it that are gone for good."""

    stream: socket.socket
    first: int
    lost: int


def request(since: int | None, *, read_only: bool = False) -> bytes:
    """The client's line."""
    return json.dumps({"since": since, "read_only": read_only}).encode() + b"\n"


def attach(path: Path, since: int | None = None, *, read_only: bool = False) -> Attached:
    """ConsoleError, OSError (nobody listens: the domain is over)."""
    stream = connect(path, timeout=GREETING_S)
    try:
        with suppress(BrokenPipeError):  # it has refused us already: its answer can still be read
            stream.sendall(request(since, read_only=read_only))
        answer = _answer(stream)
        stream.settimeout(None)
        return Attached(stream, int(answer["first"]), int(answer["lost"]))
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        stream.close()
        raise ConsoleError(f"{path}: what answers is no console") from error
    except BaseException:
        stream.close()
        raise


def _answer(stream: socket.socket) -> dict[str, Any]:
    """The line, read byte by byte: what follows it is the guest's."""
    line = b""
    while not line.endswith(b"\n"):
        byte = stream.recv(1)
        if not byte or len(line) > LINE_BYTES:
            raise ConsoleError("the console closed before it answered: the domain is ending")
        line += byte
    answer = json.loads(line)
    if isinstance(answer, dict) and "error" in answer:
        raise ConsoleError(str(answer["error"]))
    return dict(answer)
