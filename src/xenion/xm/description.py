"""The commands as data, read from their parsers: what the completion scripts and the manual page are made of."""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

from xenion.xm.arguments import Parser
from xenion.xm.main import load, names


@dataclass(frozen=True, slots=True)
class Argument:
    """`flags` are empty for a positional one; `value` is the metavar, "" for a flag that takes none."""

    flags: tuple[str, ...]
    value: str
    choices: tuple[str, ...]
    nargs: str
    """"", "?", "*" or "+"."""
    text: str

    @property
    def usage(self) -> str:
        """As it stands in a synopsis."""
        if self.flags:
            return f"[{self.flags[0]}{f' {self.value}' if self.value else ''}]"
        forms = {"": "{}", "?": "[{}]", "*": "[{} ...]", "+": "{} [{} ...]"}
        return forms[self.nargs].replace("{}", self.value)


@dataclass(frozen=True, slots=True)
class Command:
    name: str
    summary: str
    arguments: tuple[Argument, ...]
    epilog: str

    @property
    def options(self) -> list[Argument]:
        return [argument for argument in self.arguments if argument.flags]

    @property
    def positionals(self) -> list[Argument]:
        return [argument for argument in self.arguments if not argument.flags]

    def takes(self, kind: str) -> bool:
        """Whether a positional argument of this metavar is among them."""
        return any(argument.value == kind for argument in self.positionals)

    @property
    def words(self) -> list[str]:
        """What its positional arguments can be, where that is a choice."""
        return [word for argument in self.positionals for word in argument.choices]


def commands() -> list[Command]:
    """All of them, by name."""
    return [_command(name) for name in names()]


def _command(name: str) -> Command:
    module = load(name)
    parser: Parser = module.parser()
    return Command(name, module.SUMMARY, tuple(_arguments(parser)), parser.epilog or "")


def _arguments(parser: Parser) -> Iterator[Argument]:
    """Those that the help shows, -h itself left out."""
    for action in parser._actions:
        if action.help == argparse.SUPPRESS or "-h" in action.option_strings:
            continue
        choices = tuple(map(str, action.choices)) if action.choices is not None else ()
        value = "" if action.nargs == 0 else str(action.metavar or "|".join(choices) or action.dest.upper())
        nargs = action.nargs if isinstance(action.nargs, str) else ""
        yield Argument(tuple(action.option_strings), value, choices, nargs, action.help or "")
