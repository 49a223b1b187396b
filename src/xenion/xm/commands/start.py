"""xm start: start a managed domain."""

from collections.abc import Sequence

from xenion.xm.arguments import Parser, command, domain_argument, parse
from xenion.xm.starting import EPILOG, start, starting_options

SUMMARY = "start a managed domain"


def parser() -> Parser:
    p = command("start", SUMMARY, EPILOG.replace(" or -F", ""))
    starting_options(p)
    p.add_argument(
        "--anew", action="store_true", help="also if it is suspended: what was in its memory is lost"
    )
    domain_argument(p)
    return p


def run(argv: Sequence[str]) -> int:
    from xenion.xm.calls import connected

    args = parse(parser(), argv)
    with connected() as client:
        return start(client, "start", {"anew": True} if args.anew else {}, args, domain=args.domain)
