"""How the commands declare their arguments: parsers that complain in one sentence, and the arguments that many share.

The metavar tells what an argument is, for the completion scripts as well: DOM a domain, FILE a file, COMMAND a command.
"""

import argparse
from collections.abc import Callable, Sequence
from typing import NoReturn

from xenion.xm.errors import UsageError

DOMAIN, FILE, COMMAND = "DOM", "FILE", "COMMAND"


class Parser(argparse.ArgumentParser):
    """Options may stand anywhere among the arguments."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f'{message}; see "{self.prog} -h"')


def command(name: str, summary: str, epilog: str = "") -> Parser:
    """The parser of a command that has no arguments yet."""
    return Parser(
        prog=f"xm {name}",
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=epilog or None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def parse(parser: Parser, argv: Sequence[str]) -> argparse.Namespace:
    """UsageError."""
    return parser.parse_intermixed_args(list(argv))


def json_option(parser: Parser, text: str = "print JSON, for programs") -> None:
    parser.add_argument("--json", action="store_true", help=text)


def domain_argument(parser: Parser, nargs: str | None = None, text: str = "name, id or UUID") -> None:
    """`domain`, or with `nargs` the list `domains`."""
    if nargs is None:
        parser.add_argument("domain", metavar=DOMAIN, type=domain_word, help=text)
    else:
        parser.add_argument("domains", metavar=DOMAIN, type=domain_word, nargs=nargs, help=text)


def domain_word(word: str) -> str:
    if not word:
        raise argparse.ArgumentTypeError("give a domain's name, id or UUID")
    return word


def natural(word: str) -> int:
    """A whole number from 0 on."""
    if not (word.isascii() and word.isdecimal()):
        raise argparse.ArgumentTypeError(f'"{word}" is not a whole number from 0 on')
    return int(word)


def natural_up_to(most: int, least: int = 0) -> Callable[[str], int]:
    """The type of a whole number from `least` to `most`."""

    def number(word: str) -> int:
        if not (word.isascii() and word.isdecimal() and len(word) <= 20 and least <= int(word) <= most):
            raise argparse.ArgumentTypeError(f'"{word}" is not a whole number from {least} to {most}')
        return int(word)

    return number


def mebibytes(word: str) -> int:
    """An amount of memory: MiB, or with a suffix of k, m, g or t."""
    from xenion.config.amounts import amount
    from xenion.config.errors import ConfigError

    try:
        size = amount("memory", word.upper() if word[-1:].isalpha() else f"{word}M")
    except ConfigError:
        raise argparse.ArgumentTypeError(f'"{word}" is no amount of memory, such as 256 or 1g') from None
    mib, rest = divmod(size, 1 << 20)
    if rest or not 1 <= mib <= 1 << 20:
        raise argparse.ArgumentTypeError(f'"{word}" is not a whole number of MiB from 1 to {1 << 20}')
    return mib


def seconds(word: str) -> float:
    """A time of at most a day."""
    try:
        value = float(word)
    except ValueError:
        value = -1.0
    if not 0 < value <= 86400:
        raise argparse.ArgumentTypeError(f'"{word}" is not a number of seconds')
    return value


def configuration_arguments(parser: Parser) -> None:
    """FILE and NAME=VALUE; `configuration` reads them."""
    parser.add_argument(
        "-q",
        "--quiet",
        action="store_true",
        help="no notes about the configuration, and no word of what was done",
    )
    parser.add_argument(
        "-f", "--defconfig", metavar=FILE, help="the configuration file, instead of the first argument"
    )
    parser.add_argument("file", nargs="?", metavar=FILE, help="an xm or xl configuration file")
    parser.add_argument(
        "overrides", nargs="*", metavar="NAME=VALUE", help="a value that wins over the file's"
    )


def overrides(words: Sequence[str]) -> dict[str, str]:
    """NAME=VALUE arguments; UsageError."""
    pairs = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name.isidentifier():
            raise UsageError(f'"{word}" is not NAME=VALUE')
        pairs[name] = value
    return pairs
