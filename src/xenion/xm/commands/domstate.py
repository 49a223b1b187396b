"""xm domstate: what a domain is doing."""

from collections.abc import Sequence

from xenion.xm.arguments import Parser, command, domain_argument, json_option, parse

SUMMARY = "print a domain's state in a word, and why it stopped"


def parser() -> Parser:
    p = command("domstate", SUMMARY)
    json_option(p)
    domain_argument(p)
    return p


def run(argv: Sequence[str]) -> int:
    from xenion.xm.calls import connected
    from xenion.xm.output import escaped, print_json

    args = parse(parser(), argv)
    with connected() as client:
        domain = client.call("domain", domain=args.domain)
    if args.json:
        told = ("name", "state", "reason", "leaving")
        print_json({key: domain[key] for key in told if key in domain})
    else:
        leaving = domain.get("leaving")
        why = f"it may run on {escaped(leaving)}" if leaving else domain["reason"]
        print(domain["state"] + (f" ({why})" if why else ""))
    return 0
