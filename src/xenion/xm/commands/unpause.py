"""xm unpause: let paused domains go on."""

from collections.abc import Sequence

from xenion.xm.arguments import Parser, command, domain_argument, parse

SUMMARY = "let paused domains go on"


def parser() -> Parser:
    p = command("unpause", SUMMARY)
    domain_argument(p, "+")
    return p


def run(argv: Sequence[str]) -> int:
    from xenion.xm.calls import change, connected, on_each
    from xenion.xm.starting import is_not_paused

    args = parse(parser(), argv)
    with connected() as client:
        return on_each(args.domains, lambda name: change(client, "unpause", name, done=is_not_paused))
