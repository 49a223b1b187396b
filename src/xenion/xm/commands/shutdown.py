"""xm shutdown: ask guests to shut down."""

from collections.abc import Sequence

from xenion.xm.arguments import Parser, command, parse

SUMMARY = "ask guests to shut down"


def parser() -> Parser:
    from xenion.xm.asking import asking_arguments

    p = command("shutdown", SUMMARY)
    modes = p.add_mutually_exclusive_group()
    modes.add_argument("-R", "--reboot", action="store_true", help="ask them to reboot instead")
    modes.add_argument("-H", "--halt", action="store_true", help="ask them to halt instead")
    asking_arguments(p)
    return p


def run(argv: Sequence[str]) -> int:
    from xenion.xm.asking import ask

    args = parse(parser(), argv)
    return ask("reboot" if args.reboot else "halt" if args.halt else "poweroff", args)
