"""xm destroy: end domains at once."""

from collections.abc import Sequence
from typing import Any

from xenion.xm.arguments import Parser, command, domain_argument, parse

SUMMARY = "end domains at once, as if their power had been cut"


def parser() -> Parser:
    p = command("destroy", SUMMARY)
    domain_argument(p, "+")
    return p


def run(argv: Sequence[str]) -> int:
    from xenion.xm.calls import change, connected, on_each

    args = parse(parser(), argv)
    with connected() as client:
        return on_each(args.domains, lambda name: change(client, "destroy", name, done=is_gone))


def is_gone(domain: Any) -> bool:
    return domain is None or domain["state"] in ("defined", "suspended")
