"""xm vcpu-pin: on which of the host's CPUs a domain runs."""

import argparse
from collections.abc import Sequence

from xenion.xm.arguments import Parser, command, domain_argument, parse

SUMMARY = "choose the host's CPUs that a domain runs on"
EPILOG = (
    "The virtual CPUs of a domain take turns on one thread: they are pinned together, whichever is named."
)


def parser() -> Parser:
    p = command("vcpu-pin", SUMMARY, EPILOG)
    domain_argument(p)
    p.add_argument("vcpu", metavar="VCPU", type=_vcpu, help='a number, or "all"')
    p.add_argument("cpus", metavar="CPUS", help='such as "0-3,^1", or "all"')
    return p


def _vcpu(word: str) -> str:
    if word != "all" and not (word.isascii() and word.isdecimal() and len(word) < 4):
        raise argparse.ArgumentTypeError(f'"{word}" is neither a virtual CPU\'s number nor "all"')
    return word


def run(argv: Sequence[str]) -> int:
    from xenion.xm.calls import connected, replaced

    args = parse(parser(), argv)
    with connected() as client:
        replaced(client, "set_share", {"cpus": args.cpus}, domain=args.domain)
    return 0
