"""xm destroy: end a domain at once."""

import argparse
from collections.abc import Sequence

from xenion.xm.errors import XmError

SUMMARY = "end a domain at once, as if its power had been cut"


def run(argv: Sequence[str]) -> int:
    from xenion.domain.launch import NotRunningError, destroy

    parser = argparse.ArgumentParser(prog="xm destroy", description=SUMMARY)
    parser.add_argument("name", metavar="NAME", help="the domain's name")
    args = parser.parse_args(argv)
    try:
        destroy(_checked(args.name))
    except NotRunningError as error:
        raise XmError(str(error)) from error
    except OSError as error:
        raise XmError(f"{args.name}: {error.strerror}") from error
    return 0


def _checked(name: str) -> str:
    from xenion.config.domain import check_name
    from xenion.config.errors import ConfigError
    from xenion.xm.errors import UsageError

    try:
        check_name(name)
    except ConfigError as error:
        raise UsageError(str(error)) from error
    return name
