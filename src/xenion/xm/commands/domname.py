"""xm domname: a domain's name."""

from collections.abc import Sequence

from xenion.xm.arguments import Parser, command, domain_argument, json_option, parse

SUMMARY = "print a domain's name"


def parser() -> Parser:
    p = command("domname", SUMMARY)
    json_option(p)
    domain_argument(p)
    return p


def run(argv: Sequence[str]) -> int:
    from xenion.xm.calls import connected
    from xenion.xm.output import escaped, print_json

    args = parse(parser(), argv)
    with connected() as client:
        name = client.call("domain", domain=args.domain)["name"]
    if args.json:
        print_json(name)
    else:
        print(escaped(name))
    return 0
