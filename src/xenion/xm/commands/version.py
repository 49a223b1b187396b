"""xm version: the versions of Xenion and of the interface that guests see."""

import platform
from collections.abc import Sequence

from xenion.api.installed import version_of
from xenion.xm.arguments import Parser, command, json_option, parse

SUMMARY = "show the versions of Xenion and of the Xen interface it offers"


def parser() -> Parser:
    p = command("version", SUMMARY)
    json_option(p)
    return p


def run(argv: Sequence[str]) -> int:
    from xenion.xm.output import print_json

    args = parse(parser(), argv)
    facts = _facts()
    if args.json:
        print_json(facts)
    else:
        for name, value in facts.items():
            print(f"{name:<10} {value}")
    return 0


def _facts() -> dict[str, str]:
    return {
        "xenion": version_of("xenion"),
        "xen_abi": "4.17",
        "unicorn": version_of("unicorn"),
        "python": platform.python_version(),
        "host": f"{platform.system()} {platform.release()} {platform.machine()}",
    }
