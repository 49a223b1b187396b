"""A user at a domain's console from its attaching to what became of the domain."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from xenion.api.client import Client
from xenion.api.console import ConsoleError, attach
from xenion.xm.console import STATUS_SIGNALLED, Attendant
from xenion.xm.errors import XmError
from xenion.xm.outcome import Watch, await_outcome, tell

HINT = 'left the console; the domain goes on; "xm console {0}" comes back to it, "xm destroy {0}" ends it'


def attend(
    client: Client,
    domain: Any,
    *,
    since: int | None = None,
    read_only: bool = False,
    ready: Callable[[], object] = lambda: None,
) -> int:
    """Until the domain ends or the user leaves; the status as `tell` gives it. XmError, ApiError.

    `ready` is called once attached. `since` is the number of the first byte wanted, as in xenion.api.console.
    """
    if client.url:
        raise XmError(
            "xend is on another host (XEND_URL): its consoles can be had by the API's WebSocket only"
        )
    path = Path(domain["console"])
    try:
        attached = attach(path, since, read_only=read_only)
    except ConsoleError as error:
        raise XmError(str(error)) from error
    except OSError:  # nobody listens: it has ended already
        return tell(await_outcome(client, domain["uuid"]), domain)
    watch = Watch(client.where, domain["uuid"])
    try:
        with attached.stream:
            ready()
            attendant = Attendant(path, attached, watch.fd, _input(), read_only=read_only)
            attendant.attend()
    finally:
        watch.close()
    if attendant.signalled:
        return STATUS_SIGNALLED + attendant.signalled
    if attendant.detached:
        print(f"\nxm: {HINT.format(domain['name'])}", file=sys.stderr)
        return 0
    return tell(await_outcome(client, domain["uuid"]), domain)


def _input() -> int:
    return sys.stdin.fileno() if sys.stdin else os.open(os.devnull, os.O_RDONLY)
