"""xm new: define a managed domain."""

from collections.abc import Sequence

from xenion.xm.arguments import Parser, command, configuration_arguments, json_option, parse

SUMMARY = "define a managed domain from a configuration file, or define it anew"


def parser() -> Parser:
    p = command("new", SUMMARY)
    json_option(p, "print the domain as JSON, for programs")
    configuration_arguments(p)
    return p


def run(argv: Sequence[str]) -> int:
    from xenion.xm.calls import connected
    from xenion.xm.configuration import configuration, tell_notes
    from xenion.xm.output import print_json

    args = parse(parser(), argv)
    config = configuration(args)
    if not args.quiet:
        tell_notes(config)
    with connected() as client:
        domain = client.request("POST", "/v1/managed", {"config": config.to_mapping()}, repeat=True)
    if args.json:
        print_json(domain)
    elif not args.quiet:
        print(f"Defined domain {domain['name']}")
    return 0
