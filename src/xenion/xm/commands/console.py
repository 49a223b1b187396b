"""xm console: attach to a domain's console."""

import argparse
from collections.abc import Sequence
from typing import Any

from xenion.xm.arguments import Parser, command, domain_argument, natural, parse

SUMMARY = "attach to a domain's console"
EPILOG = """\
First comes what is kept of the guest's output. Leave the console with ctrl-]:
the domain goes on. Exit status: 0 whatever becomes of the domain, which is
told; 1 when there is no console to attach to."""


def parser() -> Parser:
    p = command("console", SUMMARY, EPILOG)
    p.add_argument(
        "--read-only", action="store_true", help="only look: nothing that is typed reaches the guest"
    )
    p.add_argument(
        "--since",
        type=_number,
        metavar="N",
        help="begin with byte N of the guest's output, the first one is 0; -1: only what comes from now on",
    )
    domain_argument(p)
    return p


def _number(word: str) -> int:
    if word == "-1":
        return -1
    try:
        return natural(word)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}, nor -1 for only what comes from now on") from None


def run(argv: Sequence[str]) -> int:
    from xenion.xm.calls import connected

    args = parse(parser(), argv)
    with connected() as client:
        domain = client.call("domain", domain=args.domain)
        return _attended(client, domain, args)


def _attended(client: Any, domain: Any, args: Any) -> int:
    from xenion.xm.attend import attend
    from xenion.xm.console import STATUS_SIGNALLED
    from xenion.xm.errors import XmError

    if domain["domid"] == 0:
        raise XmError(f"{domain['name']} is the host: it has no console here")
    if not domain["console"]:
        raise XmError(f"{domain['name']} does not run: it has no console")
    status = attend(client, domain, since=args.since, read_only=args.read_only)
    return status if status > STATUS_SIGNALLED else 0
