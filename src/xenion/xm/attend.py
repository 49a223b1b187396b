"""A user at a domain's console from its attaching to what became of the domain."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from xenion.api.client import Client
from xenion.api.console import ConsoleError
from xenion.xm.console import ESCAPE, STATUS_SIGNALLED, Attach, Attendant
from xenion.xm.errors import CancelledError, XmError
from xenion.xm.outcome import Watch, await_outcome, tell
from xenion.xm.terminal import interrupted_by

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
    attach, typed = attacher(client, domain, read_only=read_only), _input()
    try:
        with interrupted_by(typed, ESCAPE):
            attached = attach(since)
    except KeyboardInterrupt:
        raise CancelledError(HINT.format(domain["name"])) from None
    except ConsoleError as error:
        raise XmError(str(error)) from error
    except (TimeoutError, BlockingIOError) as error:  # the latter: too many wait for it already
        name = domain["name"]
        raise XmError(f"the process of {name} does not answer: `xm destroy {name}` ends it") from error
    except OSError:  # nobody listens: it has ended already
        return tell(await_outcome(client, domain["uuid"]), domain)
    watch = Watch(client.where, domain["uuid"])
    try:
        with attached.stream:
            ready()
            attendant = Attendant(attach, attached, watch.fd, typed, read_only=read_only)
            attendant.attend()
    finally:
        watch.close()
    if attendant.signalled:
        return STATUS_SIGNALLED + attendant.signalled
    if attendant.detached:
        print(f"\nxm: {HINT.format(domain['name'])}", file=sys.stderr)
        return 0
    return tell(await_outcome(client, domain["uuid"]), domain)


def attacher(client: Client, domain: Any, *, read_only: bool) -> Attach:
    """Straight to the domain's socket, or through a xend on another host."""
    if client.url:
        from xenion.xm import relay

        return lambda since: relay.attach(client, domain["uuid"], since, read_only=read_only)
    from xenion.api import console

    return lambda since: console.attach(Path(domain["console"]), since, read_only=read_only)


def _input() -> int:
    return sys.stdin.fileno() if sys.stdin else os.open(os.devnull, os.O_RDONLY)
