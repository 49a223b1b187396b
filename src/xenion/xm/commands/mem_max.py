"""xm mem-max: how much memory a domain may come to have."""

from collections.abc import Sequence

from xenion.xm.arguments import Parser, command, domain_argument, mebibytes, parse

SUMMARY = "set how much memory a domain may come to have"
EPILOG = "At most maxmem in its configuration, which the domain was built for, and at least what it has."


def parser() -> Parser:
    p = command("mem-max", SUMMARY, EPILOG)
    domain_argument(p)
    p.add_argument(
        "memory", metavar="MEMORY", type=mebibytes, help="how much, in MiB; with the suffix g, in GiB"
    )
    return p


def run(argv: Sequence[str]) -> int:
    from xenion.xm.calls import connected, replaced

    args = parse(parser(), argv)
    with connected() as client:
        replaced(client, "set_maxmem", {"mib": args.memory}, domain=args.domain)
    return 0
