"""xm config-update: replace a domain's configuration."""

from collections.abc import Sequence

from xenion.xm.arguments import FILE, Parser, command, domain_argument, json_option, parse

SUMMARY = "replace a domain's configuration; it holds from the next boot on"


def parser() -> Parser:
    p = command("config-update", SUMMARY, "The domain keeps its name and UUID, whatever the file says.")
    p.add_argument("-q", "--quiet", action="store_true", help="no notes about the configuration")
    json_option(p, "print the domain as JSON, for programs")
    domain_argument(p)
    p.add_argument("file", metavar=FILE, help="an xm or xl configuration file")
    p.add_argument("overrides", nargs="*", metavar="NAME=VALUE", help="a value that wins over the file's")
    return p


def run(argv: Sequence[str]) -> int:
    from xenion.xm.calls import connected, replaced
    from xenion.xm.configuration import read, tell_notes
    from xenion.xm.output import print_json

    args = parse(parser(), argv)
    config = read(args.file, args.overrides)
    if not args.quiet:
        tell_notes(config)
    with connected() as client:
        domain = replaced(client, "configure", {"config": config.to_mapping()}, domain=args.domain)
    if args.json:
        print_json(domain)
    return 0
