"""xm image: root disks to start guests from. Each verb is a file of its own beside this one."""

import importlib
from collections.abc import Sequence

from xenion.xm.arguments import Parser, command, parse

SUMMARY = "build, list and remove root disks for guests"
VERBS = ("build", "list", "path", "rm")
EPILOG = """\
xm image build debian NAME    build a bootable Debian root disk, without root
xm image list                 list the images
xm image path NAME            print where an image's files are
xm image rm NAME ...          remove images
"xm image VERB -h" tells a verb's arguments."""


def parser() -> Parser:
    p = command("image", SUMMARY, EPILOG)
    p.add_argument("verb", choices=VERBS, help="what to do")
    p.add_argument("arguments", metavar="ARGUMENT", nargs="*", default=[], help="the verb's own arguments")
    return p


def run(argv: Sequence[str]) -> int:
    if not argv or argv[0] not in VERBS:
        parse(parser(), argv)  # shows the help, or tells what is wrong
        return 2
    verb = importlib.import_module(f"xenion.xm.commands._image_{argv[0]}")
    return int(verb.run(argv[1:]))
