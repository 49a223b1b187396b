"""xm block-detach: take a disk from a domain."""

from collections.abc import Sequence

from xenion.xm.arguments import Parser, command, domain_argument, parse

SUMMARY = "take a disk from a domain"


def parser() -> Parser:
    from xenion.xm.devices import disk_argument, force_option

    p = command("block-detach", SUMMARY)
    force_option(p)
    domain_argument(p)
    disk_argument(p)
    return p


def run(argv: Sequence[str]) -> int:
    from xenion.xm.calls import certain, connected
    from xenion.xm.devices import disks, is_gone

    args = parse(parser(), argv)
    query = {"force": "true"} if args.force else None
    with connected() as client:
        certain(
            lambda: client.call("detach_disk", query=query, domain=args.domain, vdev=args.vdev),
            lambda: is_gone(client, disks, args.domain, lambda disk: disk["vdev"] == args.vdev),
        )
    return 0
