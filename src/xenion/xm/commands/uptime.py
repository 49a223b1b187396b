"""xm uptime: how long domains have been running."""

from collections.abc import Sequence
from typing import Any

from xenion.xm.arguments import Parser, command, domain_argument, json_option, parse

SUMMARY = "tell how long domains have been running since they booted"


def parser() -> Parser:
    p = command("uptime", SUMMARY)
    p.add_argument("-s", "--short", action="store_true", help="print the whole seconds only")
    json_option(p)
    domain_argument(p, "*", "name, id or UUID; all that run if left out")
    return p


def run(argv: Sequence[str]) -> int:
    from xenion.xm.calls import connected, on_each

    args = parse(parser(), argv)
    found: list[Any] = []
    with connected() as client:
        if args.domains:
            status = on_each(args.domains, lambda name: found.append(client.call("domain", domain=name)))
        else:
            status = 0
            found = [d for d in client.call("list")["domains"] if d["uptime_seconds"] is not None]
    _show(found, args)
    return status


def _show(domains: Sequence[Any], args: Any) -> None:
    from xenion.xm.output import duration, escaped, print_json

    if args.json:
        print_json([{key: d[key] for key in ("name", "domid", "uptime_seconds")} for d in domains])
        return
    if args.short:
        for domain in domains:
            print(int(domain["uptime_seconds"] or 0))
        return
    print(f"{'Name':<33} {'ID':>4} Uptime")
    for domain in domains:
        domid, seconds = domain["domid"], domain["uptime_seconds"]
        shown = "-" if seconds is None else duration(seconds)
        print(f"{escaped(domain['name']):<33} {'-' if domid is None else domid:>4} {shown}")
