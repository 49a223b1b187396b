"""xm create: start a domain from a configuration file."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from xenion.config.errors import ConfigError
from xenion.xm.errors import UsageError, XmError

SUMMARY = "start a domain from a configuration file"
EPILOG = """\
Exit status: 0 when the guest has powered off, 1 when it crashed (the report's path is printed), 2 when the
configuration is wrong or the domain cannot be built. Leave the console with ctrl-]: the domain goes on."""


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="xm create",
        description=SUMMARY,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("-c", "--console", action="store_true", help="attach to the domain's console")
    p.add_argument("-n", "--dry-run", action="store_true", help="print the resolved configuration and stop")
    p.add_argument("--json", action="store_true", help="with -n: as JSON")
    p.add_argument("-q", "--quiet", action="store_true", help="no notes about the configuration")
    p.add_argument("file", type=Path, metavar="FILE", help="an xm or xl configuration file")
    p.add_argument("overrides", nargs="*", metavar="NAME=VALUE", help="a value that wins over the file's")
    return p


def _overrides(words: Sequence[str]) -> dict[str, str]:
    pairs = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name.isidentifier():
            raise UsageError(f'"{word}" is not NAME=VALUE')
        pairs[name] = value
    return pairs


def run(argv: Sequence[str]) -> int:
    from xenion.config import xmfile

    args = parser().parse_args(argv)
    try:
        config = xmfile.load(args.file, _overrides(args.overrides))
    except ConfigError as error:
        raise UsageError(str(error)) from error
    if args.dry_run:
        from xenion.config.show import show

        print(config.to_json() if args.json else show(config), end="\n" if args.json else "")
        return 0
    if not args.quiet:
        for note in config.notes:
            print(f"note: {note}", file=sys.stderr)
    if not args.console:
        raise XmError("a domain cannot run in the background yet: use xm create -c")
    from xenion.xm.console import attend

    return attend(config)
