"""xm info: the host, xend and the processor."""

from collections.abc import Sequence
from typing import Any

from xenion.xm.arguments import Parser, command, json_option, parse

SUMMARY = "tell about the host, xend and the processor that guests run on"
CLASSIC_NAMES = {"total_memory_mib": "total_memory", "free_memory_mib": "free_memory"}


def parser() -> Parser:
    p = command("info", SUMMARY, "Memory is in MiB; free_memory is what a new domain may take.")
    json_option(p)
    return p


def run(argv: Sequence[str]) -> int:
    from xenion.xm.calls import connected
    from xenion.xm.output import print_fields, print_json

    args = parse(parser(), argv)
    with connected() as client:
        info = client.call("info")
    if args.json:
        print_json(info)
    else:
        print_fields(_for_people(info))
    return 0


def _for_people(info: Any) -> dict[str, Any]:
    from xenion.xm.output import moment

    shown = {CLASSIC_NAMES.get(name, name): value for name, value in info.items()}
    shown["xend_started_at"] = moment(info["xend_started_at"])
    return shown
