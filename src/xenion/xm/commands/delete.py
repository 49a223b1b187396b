"""xm delete: forget managed domains."""

from collections.abc import Sequence

from xenion.xm.arguments import Parser, command, domain_argument, parse

SUMMARY = "forget managed domains that do not run"


def parser() -> Parser:
    p = command("delete", SUMMARY)
    domain_argument(p, "+")
    return p


def run(argv: Sequence[str]) -> int:
    from xenion.xm.calls import change, connected, on_each

    args = parse(parser(), argv)
    with connected() as client:
        return on_each(
            args.domains, lambda name: change(client, "delete", name, done=lambda domain: domain is None)
        )
