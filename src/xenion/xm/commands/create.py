"""xm create: start a domain from a configuration file."""

from collections.abc import Sequence

from xenion.xm.arguments import Parser, command, configuration_arguments, parse
from xenion.xm.configuration import configuration, tell_notes
from xenion.xm.errors import UsageError
from xenion.xm.starting import EPILOG, start, starting_options

SUMMARY = "start a domain from a configuration file"


def parser() -> Parser:
    p = command("create", SUMMARY, EPILOG)
    starting_options(p)
    p.add_argument(
        "-n",
        "--dry-run",
        action="store_true",
        help="print the resolved configuration and stop; its notes are a part of it, even with -q",
    )
    p.add_argument(
        "-F", "--foreground", action="store_true", help="stay until the domain has ended, without its console"
    )
    configuration_arguments(p)
    return p


def run(argv: Sequence[str]) -> int:
    args = parse(parser(), argv)
    if args.console and args.foreground:
        raise UsageError("-c waits for the end already: leave -F out")
    config = configuration(args)
    if args.dry_run:
        from xenion.config.show import show

        print(config.to_json() if args.json else show(config), end="\n" if args.json else "")
        return 0
    if not args.quiet:
        tell_notes(config)
    from xenion.xm.calls import connected

    with connected() as client:
        return start(
            client,
            "create",
            {"config": config.to_mapping()},
            args,
            quiet=args.quiet,
            foreground=args.foreground,
        )
