"""xm help: the commands, or one command's own help."""

from collections.abc import Sequence

from xenion.xm.arguments import COMMAND, Parser, command, parse

SUMMARY = "list the commands, or show the help of one"


def parser() -> Parser:
    p = command("help", SUMMARY)
    p.add_argument("command", metavar=COMMAND, nargs="?", help="the command whose help is wanted")
    return p


def run(argv: Sequence[str]) -> int:
    from xenion.xm.main import find, load, names

    args = parse(parser(), argv)
    if args.command is not None:
        print(load(find(args.command)).parser().format_help(), end="")
        return 0
    print("usage: xm COMMAND [ARGUMENT ...]\n\ncommands:")
    for name in names():
        print(f"  {name:<15} {load(name).SUMMARY}")
    print('\n"xm COMMAND -h" tells a command\'s arguments; an unambiguous beginning of its name will do.')
    return 0
