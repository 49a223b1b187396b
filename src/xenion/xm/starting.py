"""A domain is started and attended, or left to itself: what `xm create` and `xm start` have in common."""

import sys
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from xenion.api.client import Client
from xenion.api.errors import ApiError
from xenion.xm.arguments import Parser, json_option
from xenion.xm.calls import change
from xenion.xm.errors import CancelledError
from xenion.xm.output import complain, print_json
from xenion.xm.progress import accomplish

EPILOG = """\
Exit status: 0 when the domain was started and, with -c or -F, has powered off
or rebooted for good; 1 when it crashed (the report's path is printed) or was
destroyed; 2 when the configuration is wrong or the domain cannot be built.
Leave the console with ctrl-]: the domain goes on."""


def starting_options(parser: Parser) -> None:
    parser.add_argument("-c", "--console", action="store_true", help="attach to the domain's console")
    parser.add_argument("-p", "--paused", action="store_true", help="leave it paused before its first step")
    json_option(parser, "print the domain as JSON, for programs")


def start(
    client: Client,
    action: str,
    body: Mapping[str, Any],
    args: Namespace,
    *,
    quiet: bool = False,
    foreground: bool = False,
    **parameters: str,
) -> int:
    """The exit status. ApiError, XmError."""
    paused = args.paused or args.console  # so that whoever attends misses nothing
    domain = accomplish(client, action, {**body, "paused": paused}, **parameters)["domain"]
    if args.console:
        if args.paused and not quiet:
            complain(f'{domain["name"]} is paused: "xm unpause {domain["name"]}" starts it')
        return _attended(client, domain, paused=args.paused)
    if args.json:
        print_json(domain)
    elif not quiet:
        print(f"Started domain {domain['name']} (id={domain['domid']})")
    return _waited_for(client, domain) if foreground else 0


def _attended(client: Client, domain: Any, *, paused: bool) -> int:
    from xenion.xm.attend import attend

    waits = not paused

    def unpause() -> None:
        nonlocal waits
        if not waits:
            return
        waits = False
        try:
            change(client, "unpause", domain["uuid"], done=is_not_paused)
        except ApiError as error:
            if error.code not in (
                "no-such-domain",
                "wrong-state",
            ):  # then its end is told, or it runs already
                raise

    try:
        return attend(client, domain, since=0, ready=unpause)
    finally:
        unpause()  # nobody attends it after all: it goes on


def is_not_paused(domain: Any) -> bool:
    return domain is None or domain["state"] != "paused"


def _waited_for(client: Client, domain: Any) -> int:
    from xenion.xm.outcome import await_outcome, tell

    sys.stdout.flush()
    try:
        return tell(await_outcome(client, domain["uuid"]), domain)
    except KeyboardInterrupt:
        name = domain["name"]
        raise CancelledError(f'no longer waiting; {name} goes on, "xm destroy {name}" ends it') from None
