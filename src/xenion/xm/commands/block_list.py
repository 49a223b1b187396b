"""xm block-list: domains' disks."""

from collections.abc import Sequence
from typing import Any

from xenion.xm.arguments import Parser, command, domain_argument, parse

SUMMARY = "list domains' disks"
HEADER = f"{'Name':<24} {'Vdev':<8} {'Mode':<4} {'State':<12} {'Size(MiB)':>9} {'Format':<13} Target"


def parser() -> Parser:
    from xenion.xm.devices import listing_options

    p = command("block-list", SUMMARY)
    listing_options(p, "disk")
    domain_argument(p, "+")
    return p


def run(argv: Sequence[str]) -> int:
    from xenion.xm.calls import connected, on_each
    from xenion.xm.devices import disks, show

    args = parse(parser(), argv)
    found: list[Any] = []
    with connected() as client:
        status = on_each(args.domains, lambda name: found.extend(disks(client, name)))
    show(found, args, HEADER, line_of)
    return status


def line_of(disk: Any) -> str:
    from xenion.xm.devices import MIB
    from xenion.xm.output import escaped

    form = ",".join([disk["format"], *(word for word in ("cdrom", "overlay") if disk[word])])
    return (
        f"{escaped(disk['domain']):<24} {escaped(disk['vdev']):<8} {disk['mode']:<4} {disk['state']:<12} "
        f"{disk['size_bytes'] // MIB:>9} {form:<13} {escaped(disk['target']) or '-'}"
    )
