"""xm log: the event log."""

from collections.abc import Iterator, Sequence
from typing import Any

from xenion.xm.arguments import Parser, command, natural_up_to, parse

SUMMARY = "show the event log: who did what, how it went, how long it took"
AGAIN_S = 0.2


def parser() -> Parser:
    p = command("log", SUMMARY)
    p.add_argument("-f", "--follow", action="store_true", help="go on with new entries as they come")
    p.add_argument(
        "-n",
        "--last",
        metavar="N",
        type=natural_up_to(10000),
        help="only the last N entries, at most 10000; so many if left out",
    )
    p.add_argument("--json", action="store_true", help="print a JSON object a line, for programs")
    return p


def run(argv: Sequence[str]) -> int:
    import json

    from xenion.xm.calls import connected

    args = parse(parser(), argv)
    with connected() as client:
        for entry in _entries(client, args):
            print(json.dumps(entry) if args.json else line_of(entry), flush=args.follow)
    return 0


def _entries(client: Any, args: Any) -> Iterator[Any]:
    last = None if args.last == 0 else 0
    for entry in client.call("log", query={} if args.last is None else {"last": args.last})["entries"]:
        last = entry["n"]
        yield entry
    while args.follow:
        for entry in _new(client, last):
            last = entry["n"]
            yield entry


def _new(client: Any, since: int | None) -> Iterator[Any]:
    """Until the connection breaks: xend was restarted, or we were too slow. Nothing is lost: we ask again."""
    import time
    from contextlib import suppress

    from xenion.api.client import BrokenError

    with suppress(BrokenError):
        yield from client.events(since)
    time.sleep(AGAIN_S)


def line_of(entry: Any) -> str:
    from xenion.xm.output import escaped, moment

    domain = entry["domain"] + ("" if entry["domid"] is None else f" ({entry['domid']})")
    took = "" if entry["seconds"] is None else f"{entry['seconds']:.3f}s"
    parts = [
        moment(entry["time"]),
        entry["who"],
        entry["action"],
        domain,
        entry["result"],
        took,
        entry["detail"],
    ]
    return "  ".join(escaped(part) for part in parts if part)
