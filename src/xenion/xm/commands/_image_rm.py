"""xm image rm: remove images."""

from collections.abc import Sequence

from xenion.images.store import remove
from xenion.xm.arguments import Parser, command, parse
from xenion.xm.commands._image_errors import told
from xenion.xm.errors import XmError, status_of
from xenion.xm.output import complain

SUMMARY = "remove images that no domain uses"


def parser() -> Parser:
    p = command("image rm", SUMMARY)
    p.add_argument("names", metavar="NAME", nargs="+", help="of an image")
    return p


def run(argv: Sequence[str]) -> int:
    """The status of the last that went wrong."""
    args = parse(parser(), argv)
    status = 0
    for name in args.names:
        try:
            with told():
                remove(name)
        except XmError as error:
            complain(str(error))
            status = status_of(error)
    return status
