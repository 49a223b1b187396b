"""xm sysrq: press a magic SysRq key in a guest."""

import argparse
from collections.abc import Sequence

from xenion.xm.arguments import Parser, command, domain_argument, parse

SUMMARY = "press a magic SysRq key in a guest"


def parser() -> Parser:
    p = command(
        "sysrq", SUMMARY, "The guest's kernel acts on it: s syncs its disks, b reboots it, h lists the keys."
    )
    domain_argument(p)
    p.add_argument("key", metavar="KEY", type=_key, help="one letter or digit")
    return p


def _key(word: str) -> str:
    if not (len(word) == 1 and word.isascii() and word.isalnum()):
        raise argparse.ArgumentTypeError(f'"{word}" is not one letter or digit')
    return word


def run(argv: Sequence[str]) -> int:
    from xenion.xm.calls import connected

    args = parse(parser(), argv)
    with connected() as client:
        client.call("sysrq", {"key": args.key}, domain=args.domain)
    return 0
