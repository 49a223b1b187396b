"""xm image path: where an image's files are, for scripts."""

from collections.abc import Sequence

from xenion.images.store import find
from xenion.xm.arguments import Parser, command, parse
from xenion.xm.commands._image_errors import told
from xenion.xm.output import escaped

SUMMARY = "print the path of an image's folder, or of one of its files"
FILES = ("folder", "disk", "kernel", "initrd", "config")


def parser() -> Parser:
    p = command("image path", SUMMARY)
    p.add_argument("name", metavar="NAME", help="of the image")
    p.add_argument("file", nargs="?", choices=FILES, default="folder", help="which one (folder)")
    return p


def run(argv: Sequence[str]) -> int:
    args = parse(parser(), argv)
    with told():
        image = find(args.name)
    print(escaped(str(getattr(image, args.file))))
    return 0
