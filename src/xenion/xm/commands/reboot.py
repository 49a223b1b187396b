"""xm reboot: ask guests to reboot."""

from collections.abc import Sequence

from xenion.xm.arguments import Parser, command, parse

SUMMARY = "ask guests to reboot"


def parser() -> Parser:
    from xenion.xm.asking import asking_arguments

    p = command("reboot", SUMMARY)
    asking_arguments(p)
    return p


def run(argv: Sequence[str]) -> int:
    from xenion.xm.asking import ask

    return ask("reboot", parse(parser(), argv))
