"""xm restore: let a saved domain go on."""

from collections.abc import Sequence

from xenion.xm.arguments import FILE, Parser, command, json_option, parse

SUMMARY = "let a domain that xm save has written to a file go on"
EPILOG = """It has the name and the UUID that it had, also its id if that is free, and its disks have to be as it left
them. The file stays. What comes through a pipe is taken in whole first, into a file in /var/tmp, or where TMPDIR
says, which is gone when the domain goes on and kept if it cannot."""


def parser() -> Parser:
    p = command("restore", SUMMARY, EPILOG)
    p.add_argument("-p", "--paused", action="store_true", help="leave it paused")
    p.add_argument(
        "-f",
        "--force",
        action="store_true",
        help="also if its disks have changed since: that may ruin them",
    )
    p.add_argument(
        "-b",
        "--back",
        action="store_true",
        help="go back to a checkpoint (xm save -c), with the disks as they were then: what was written since is lost",
    )
    json_option(p)
    p.add_argument("file", metavar=FILE, help="what xm save has written; a pipe, or - for standard input")
    return p


def run(argv: Sequence[str]) -> int:
    from xenion.xm.calls import connected
    from xenion.xm.output import escaped, print_json
    from xenion.xm.progress import accomplish
    from xenion.xm.streams import to_read

    args = parse(parser(), argv)
    body = {"paused": args.paused, "force": args.force, "back": args.back}
    with connected() as client:
        client.reach()  # before all that a pipe has is taken from it
        with to_read(args.file) as place:
            result = accomplish(client, "restore", {**body, "path": place.path})
    if args.json:
        print_json(result)
    else:
        print(f"{escaped(result['domain']['name'])} goes on from {escaped(place.name)}")
    return 0
