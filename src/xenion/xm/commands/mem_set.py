"""xm mem-set: how much memory a domain has."""

from collections.abc import Sequence

from xenion.xm.arguments import Parser, command, domain_argument, mebibytes, parse

SUMMARY = "ask a guest to have so much memory"
EPILOG = (
    "The guest's balloon driver does it; xm mem-max is the limit. Its next boot begins with memory again."
)


def parser() -> Parser:
    p = command("mem-set", SUMMARY, EPILOG)
    domain_argument(p)
    p.add_argument(
        "memory", metavar="MEMORY", type=mebibytes, help="how much, in MiB; with the suffix g, in GiB"
    )
    return p


def run(argv: Sequence[str]) -> int:
    from xenion.xm.calls import connected, replaced

    args = parse(parser(), argv)
    with connected() as client:
        replaced(client, "set_memory", {"mib": args.memory}, domain=args.domain)
    return 0
