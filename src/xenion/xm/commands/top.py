"""xm top: what the domains use, live."""

import time
from collections.abc import Sequence
from typing import Any

from xenion.xm.arguments import Parser, command, natural, parse, seconds

SUMMARY = "show what the domains use, live"
EPILOG = """\
Keys: q quits, h lists the others. CPU(%) is of one host CPU. VBD_RD and VBD_WR
are requests of the domain's disks, NETTX and NETRX what the guest has sent and
received, in KiB, all since it booted."""


def parser() -> Parser:
    p = command("top", SUMMARY, EPILOG)
    p.add_argument(
        "-d", "--delay", metavar="SECONDS", type=seconds, default=3.0, help="between samples; 3 if left out"
    )
    p.add_argument(
        "-b", "--batch", action="store_true", help="print the samples one after the other, without keys"
    )
    p.add_argument(
        "-i", "--iterations", metavar="N", type=natural, help="with -b: so many samples; else for ever"
    )
    p.add_argument("--json", action="store_true", help="with -b: print a JSON object a sample, for programs")
    return p


def run(argv: Sequence[str]) -> int:
    import sys

    from xenion.xm.calls import connected
    from xenion.xm.errors import UsageError

    args = parse(parser(), argv)
    if not args.batch and (args.json or args.iterations is not None):
        raise UsageError("-i and --json are for batch mode: give -b, too")
    if not args.batch and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("xm top needs a terminal: give -b for batch mode")
    with connected() as client:
        if args.batch:
            _batch(client, args)
        else:
            _live(client, args.delay)
    return 0


def _batch(client: Any, args: Any) -> None:
    from xenion.xm.usage import Usage

    usage = Usage()
    number = 0
    while args.iterations is None or number < args.iterations:
        if number:
            time.sleep(args.delay)
        head = _take(client, usage)
        _print(usage, head, as_json=args.json)
        number += 1


def _take(client: Any, usage: Any, vcpus: bool = False) -> list[str]:
    """The lines above the table."""
    from xenion.xm.commands.vcpu_list import all_vcpus

    info = client.call("info")
    known = all_vcpus(client) if vcpus else []
    usage.take(client.call("list", query={"traffic": True})["domains"], known, time.monotonic())
    return list(usage.summary(info))


def _print(usage: Any, head: Sequence[str], *, as_json: bool) -> None:
    import json

    from xenion.xm.usage import HEADER

    if as_json:
        rows = [
            {**row.domain, "cpu_percent": row.cpu_percent, "memory_percent": row.memory_percent}
            for row in usage.rows
        ]
        print(json.dumps({"time": time.time(), "domains": rows}), flush=True)
        return
    print("\n".join([*head, HEADER, *(row.text for row in usage.rows), ""]), flush=True)


def _live(client: Any, delay: float) -> None:
    import curses

    from xenion.xm import screen
    from xenion.xm.errors import EXPECTED, XmError
    from xenion.xm.output import escaped
    from xenion.xm.usage import Usage

    def sample(usage: Usage, vcpus: bool) -> list[str]:
        try:
            return _take(client, usage, vcpus)
        except EXPECTED as error:
            return [escaped(str(error)), "", ""]

    try:
        screen.run(sample, Usage(), delay)
    except curses.error as error:
        raise XmError(f"this terminal cannot show it ({error}): give -b for batch mode") from error
