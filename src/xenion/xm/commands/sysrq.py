"""xm sysrq: press a magic SysRq key in a guest."""

from collections.abc import Sequence

from xenion.xm.arguments import Parser, command, domain_argument, parse

SUMMARY = "press a magic SysRq key in a guest"


def parser() -> Parser:
    p = command(
        "sysrq", SUMMARY, "The guest's kernel acts on it: s syncs its disks, b reboots it, h lists the keys."
    )
    domain_argument(p)
    p.add_argument("key", metavar="KEY", help="one letter or digit")
    return p


def run(argv: Sequence[str]) -> int:
    from xenion.xm.calls import connected

    args = parse(parser(), argv)
    with connected() as client:
        client.call("sysrq", {"key": args.key}, domain=args.domain)
    return 0
