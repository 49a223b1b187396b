"""xm image list: the images of this user."""

from collections.abc import Sequence
from typing import Any

from xenion.images.failure import RootDiskError
from xenion.images.size import shown
from xenion.images.store import find, names
from xenion.xm.arguments import Parser, command, json_option, parse
from xenion.xm.commands._image_errors import sentence_of, told
from xenion.xm.output import complain, escaped, moment, print_json

SUMMARY = "list the images"
_HEADER = ("Name", "Suite", "Kernel", "Size", "Used", "Built")


def parser() -> Parser:
    p = command("image list", SUMMARY)
    json_option(p)
    return p


def run(argv: Sequence[str]) -> int:
    args = parse(parser(), argv)
    found, status = [], 0
    with told():
        for name in names():
            try:
                found.append(find(name).to_mapping())
            except RootDiskError as error:
                complain(sentence_of(error))
                status = 1
    if args.json:
        print_json(found)
    elif found:
        _print([_HEADER, *map(_row, found)])
    return status


def _row(image: dict[str, Any]) -> tuple[str, ...]:
    sizes = (shown(image["size_bytes"]), shown(image["used_bytes"]))
    return (image["name"], image["suite"], image["release"], *sizes, moment(image["built_at"]))


def _print(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADER))]
    for row in rows:
        print(
            "  ".join(f"{escaped(word):<{width}}" for word, width in zip(row, widths, strict=True)).rstrip()
        )
