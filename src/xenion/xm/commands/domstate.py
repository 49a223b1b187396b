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
    from xenion.xm.output import print_json

    args = parse(parser(), argv)
    with connected() as client:
        domain = client.call("domain", domain=args.domain)
    if args.json:
        print_json({"name": domain["name"], "state": domain["state"], "reason": domain["reason"]})
    else:
        print(domain["state"] + (f" ({domain['reason']})" if domain["reason"] else ""))
    return 0
