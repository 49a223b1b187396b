"""xm checkpoint-list: what a domain can go back to."""

from collections.abc import Sequence
from typing import Any

from xenion.xm.arguments import Parser, command, domain_argument, json_option, parse

SUMMARY = "list a domain's checkpoints"
EPILOG = """The oldest first; also of a domain that is over. Disks: yes if what was on them is kept, too. Size: of the
file with its memory; lost means that somebody has taken it away."""


def parser() -> Parser:
    p = command("checkpoint-list", SUMMARY, EPILOG)
    json_option(p)
    domain_argument(p)
    return p


def run(argv: Sequence[str]) -> int:
    from xenion.xm.calls import connected
    from xenion.xm.output import print_json

    args = parse(parser(), argv)
    with connected() as client:
        found = client.call("checkpoints", domain=args.domain)["checkpoints"]
    if args.json:
        print_json(found)
    else:
        print(f"{'Name':<24} {'Made':<19} {'MiB':>8} {'Disks':>5} File")
        print(end="".join(f"{line_of(one)}\n" for one in found))
    return 0


def line_of(one: Any) -> str:
    import time

    from xenion.xm.output import escaped

    made = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one["created_at"]))
    size = f"{one['size'] / (1 << 20):.1f}" if one["there"] else "lost"
    disks = "yes" if one["disks"] else "no"
    return f"{escaped(one['name']):<24} {made} {size:>8} {disks:>5} {escaped(one['path'])}"
