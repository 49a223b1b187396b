"""xm cd-eject: take the CD out of a domain's drive."""

from collections.abc import Sequence

from xenion.xm.arguments import Parser, command, domain_argument, parse

SUMMARY = "take the CD out of a domain's drive"


def parser() -> Parser:
    from xenion.xm.devices import disk_argument

    p = command("cd-eject", SUMMARY)
    domain_argument(p)
    disk_argument(p)
    return p


def run(argv: Sequence[str]) -> int:
    from xenion.xm.calls import connected
    from xenion.xm.devices import configure_disk

    args = parse(parser(), argv)
    with connected() as client:
        configure_disk(client, args.domain, args.vdev, {"target": ""})
    return 0
