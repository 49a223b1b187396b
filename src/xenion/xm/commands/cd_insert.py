"""xm cd-insert: put a CD into a domain's drive."""

from collections.abc import Sequence

from xenion.xm.arguments import FILE, Parser, command, domain_argument, parse

SUMMARY = "put a CD into a domain's drive"


def parser() -> Parser:
    from xenion.xm.devices import disk_argument

    p = command("cd-insert", SUMMARY, "What was in the drive comes out.")
    domain_argument(p)
    disk_argument(p)
    p.add_argument("target", metavar=FILE, help="the CD's image, a device, or an NBD URL")
    return p


def run(argv: Sequence[str]) -> int:
    from xenion.xm.calls import connected
    from xenion.xm.devices import configure_disk, target_of

    args = parse(parser(), argv)
    target = target_of(args.target)
    with connected() as client:
        configure_disk(client, args.domain, args.vdev, {"target": target})
    return 0
