"""xm block-configure: change a disk's limits, its size, or what is in a CD-ROM drive."""

import argparse
from collections.abc import Sequence
from typing import Any

from xenion.xm.arguments import Parser, command, domain_argument, json_option, natural, parse

SUMMARY = "change a disk's limits, its size, or what is in a CD-ROM drive"
EPILOG = """\
As in classic xm, a whole disk may stand in the place of DEV, which puts its
target into the CD-ROM drive:
  xm block-configure web file:/srv/cd.iso hdc:cdrom r
Sizes take K, M, G and T, which are powers of 1024. A guest sees a new size at
once."""


def parser() -> Parser:
    p = command("block-configure", SUMMARY, EPILOG)
    p.add_argument(
        "--limit-bytes",
        metavar="N",
        type=_size,
        help="most bytes a second, reads and writes together; 0: no limit",
    )
    p.add_argument("--limit-requests", metavar="N", type=natural, help="most requests a second; 0: no limit")
    p.add_argument("--resize", metavar="SIZE", type=_size, help="make it larger, and a file that it is in")
    cd = p.add_mutually_exclusive_group()
    cd.add_argument("--target", metavar="FILE", help="put this into the CD-ROM drive: a path or an NBD URL")
    cd.add_argument("--eject", action="store_true", help="take out what is in the CD-ROM drive")
    json_option(p, "print the disk as JSON, for programs")
    domain_argument(p)
    p.add_argument("words", metavar="DEV", nargs="+", help="the virtual disk, such as xvdb, or its number")
    return p


def _size(word: str) -> int:
    from xenion.config.amounts import amount
    from xenion.config.errors import ConfigError

    try:
        return amount("it", word)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(error.sentence) from None


def run(argv: Sequence[str]) -> int:
    from xenion.xm.calls import connected
    from xenion.xm.devices import configure_disk
    from xenion.xm.output import print_json

    args = parse(parser(), argv)
    vdev, changes = _asked(args)
    with connected() as client:
        info = configure_disk(client, args.domain, vdev, changes)
    if args.json:
        print_json(info)
    return 0


def _asked(args: Any) -> tuple[str, dict[str, Any]]:
    """The disk, and what is to change. UsageError."""
    from xenion.xm.devices import disk_of, disk_word, target_of
    from xenion.xm.errors import UsageError

    names = {
        "limit_bytes": args.limit_bytes,
        "limit_requests": args.limit_requests,
        "resize_bytes": args.resize,
    }
    changes: dict[str, Any] = {name: value for name, value in names.items() if value is not None}
    if args.target is not None or args.eject:
        changes["target"] = "" if args.eject else target_of(args.target)
    if len(args.words) > 1 or "," in args.words[0]:
        disk = disk_of(args.words)
        if "target" in changes:
            raise UsageError("the disk has a target already: leave --target and --eject out")
        return disk.vdev, {**changes, "target": disk.target}
    if not changes:
        raise UsageError('say what is to change; see "xm block-configure -h"')
    try:
        return disk_word(args.words[0]), changes
    except argparse.ArgumentTypeError as error:
        raise UsageError(str(error)) from None
