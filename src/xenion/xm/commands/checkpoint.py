"""xm checkpoint: keep a running domain as it is now."""

from collections.abc import Sequence

from xenion.xm.arguments import Parser, command, domain_argument, json_option, parse

SUMMARY = "keep a running domain as it is now, to go back to; it goes on"
EPILOG = """Its memory is written to a file while it runs; what is on its disks is kept by going on in a new file above
each image, so that both are of the same moment, for which the guest stands still. xm checkpoint-list shows what there
is, xm checkpoint-restore goes back. From then on the images are not what its disks are: xm checkpoint-delete and
xm checkpoint-merge make them so again. To write the memory to a file of your own, use xm save --checkpoint."""


def parser() -> Parser:
    p = command("checkpoint", SUMMARY, EPILOG)
    p.add_argument(
        "-S",
        "--suspend",
        action="store_true",
        help="ask the guest to suspend itself first, so that it sets its clocks when it goes on from there",
    )
    json_option(p)
    domain_argument(p)
    p.add_argument(
        "name", metavar="NAME", nargs="?", default="", help="of the checkpoint; the time if left out"
    )
    return p


def run(argv: Sequence[str]) -> int:
    from xenion.xm.calls import connected
    from xenion.xm.output import escaped, print_json, remark
    from xenion.xm.progress import accomplish

    args = parse(parser(), argv)
    body = {"name": args.name, "suspend": args.suspend}
    with connected() as client:
        result = accomplish(client, "checkpoint", body, domain=args.domain)
    if args.json:
        print_json(result)
        return 0
    remark(result)
    held_ms = result["held_s"] * 1000
    print(f"{escaped(args.domain)} is kept as {escaped(result['name'])}; it stood still for {held_ms:.0f} ms")
    return 0
