"""xm list: the domains there are, Domain-0 first."""

from collections.abc import Sequence
from typing import Any, get_args

from xenion.api.types import DomainState
from xenion.xm.arguments import Parser, command, domain_argument, json_option, parse
from xenion.xm.calls import connected, on_each
from xenion.xm.output import complain, escaped, painted, print_fields, print_json

SUMMARY = "list the domains"
EPILOG = """\
The letters of State: r running, b blocked (it waits for something), p paused,
s shut down, c crashed, d dying. A domain without an id is defined, or
suspended, and does not run."""
HEADER = f"{'Name':<40} {'ID':>5} {'Mem':>5} {'VCPUs':>5} {'State':>10} {'Time(s)':>9}"
LETTERS = {
    "running": "r-----",
    "blocked": "-b----",
    "paused": "--p---",
    "shutdown": "---s--",
    "crashed": "----c-",
    "dying": "-----d",
}
COLOURS = {
    "running": "green",
    "paused": "yellow",
    "crashed": "red",
    "dying": "dim",
    "defined": "dim",
    "suspended": "dim",
}


def parser() -> Parser:
    import argparse

    p = command("list", SUMMARY, EPILOG)
    p.add_argument("-l", "--long", action="store_true", help="everything about each domain")
    p.add_argument("--state", choices=get_args(DomainState), help="only the domains in this state")
    p.add_argument("--names", action="store_true", help=argparse.SUPPRESS)
    json_option(p)
    domain_argument(p, "*")
    return p


def run(argv: Sequence[str]) -> int:
    args = parse(parser(), argv)
    found: list[Any] = []
    with connected(start=not args.names) as client:
        if args.domains:
            status = on_each(args.domains, lambda name: found.append(client.call("domain", domain=name)))
        else:
            status = 0
            found = client.call("list")["domains"]
    _show([domain for domain in found if args.state in (None, domain["state"])], args)
    return status


def _show(domains: Sequence[Any], args: Any) -> None:
    if args.names:  # what the completion scripts ask for
        print("\n".join(escaped(domain["name"]) for domain in domains if domain["domid"] != 0))
    elif args.json:
        print_json(list(domains))
    elif args.long:
        for number, domain in enumerate(domains):
            print(end="\n" if number else "")
            print_fields(domain)
    else:
        print("\n".join([HEADER, *map(line_of, domains)]))
        for domain in domains:
            if domain.get("leaving"):
                complain(held_for(domain))


def held_for(domain: Any) -> str:
    return (
        f"{domain['name']} is held: whether it runs on {domain['leaving']} is not known yet; "
        "`xm migrate --resolve` can decide"
    )


def line_of(domain: Any) -> str:
    domid = "-" if domain["domid"] is None else domain["domid"]
    state = painted(f"{LETTERS.get(domain['state'], '------'):>10}", COLOURS.get(domain["state"], ""))
    return (
        f"{escaped(domain['name']):<40} {domid:>5} {domain['memory_mib']:>5} {domain['vcpus']:>5} "
        f"{state} {domain['cpu_seconds']:>9.1f}"
    )
