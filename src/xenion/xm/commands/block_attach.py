"""xm block-attach: give a domain another disk."""

from collections.abc import Sequence
from typing import Any

from xenion.xm.arguments import Parser, command, domain_argument, json_option, parse

SUMMARY = "give a domain another disk"
EPILOG = """\
SPEC is a disk as in a configuration file, in one word or several; so these are
the same:
  xm block-attach web phy:/dev/sdb xvdb w
  xm block-attach web /dev/sdb,raw,xvdb,rw
  xm block-attach web vdev=xvdb target=/dev/sdb"""


def parser() -> Parser:
    p = command("block-attach", SUMMARY, EPILOG)
    json_option(p, "print the disk as JSON, for programs")
    domain_argument(p)
    p.add_argument("specs", metavar="SPEC", nargs="+", help="the disk, as xm and xl write it")
    return p


def run(argv: Sequence[str]) -> int:
    from xenion.xm.calls import connected
    from xenion.xm.devices import disk_of
    from xenion.xm.output import print_json

    args = parse(parser(), argv)
    disk = disk_of(args.specs)
    with connected() as client:
        info = _attached(client, args.domain, disk)
    if args.json:
        print_json(info)
    else:
        print(f"Attached {disk.vdev}")
    return 0


def _attached(client: Any, domain: str, disk: Any) -> Any:
    """A connection that broke leaves open whether it was done: the domain's disks tell."""
    from xenion.xm.calls import certain

    def found() -> list[Any]:
        known = client.call("disks", domain=domain)["disks"]
        return [info for info in known if (info["vdev"], info["target"]) == (disk.vdev, disk.target)]

    answer = certain(
        lambda: client.call("attach_disk", {"disk": disk.to_mapping()}, domain=domain), lambda: bool(found())
    )
    return answer or next(iter(found()), None)
