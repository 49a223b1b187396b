"""xm domid: a domain's id."""

from collections.abc import Sequence

from xenion.xm.arguments import Parser, command, domain_argument, json_option, parse

SUMMARY = "print a domain's id"


def parser() -> Parser:
    p = command("domid", SUMMARY)
    json_option(p)
    domain_argument(p)
    return p


def run(argv: Sequence[str]) -> int:
    from xenion.xm.calls import connected
    from xenion.xm.errors import XmError
    from xenion.xm.output import print_json

    args = parse(parser(), argv)
    with connected() as client:
        domain = client.call("domain", domain=args.domain)
    if args.json:
        print_json(domain["domid"])
    elif domain["domid"] is None:
        raise XmError(f"{domain['name']} is defined and does not run: it has no id")
    else:
        print(domain["domid"])
    return 0
