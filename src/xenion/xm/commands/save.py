"""xm save: write a running domain to a file and end it."""

from collections.abc import Sequence

from xenion.xm.arguments import FILE, Parser, command, domain_argument, json_option, parse

SUMMARY = "write a running domain to a file and end it; xm restore lets it go on"
EPILOG = """A guest that knows how is asked to suspend itself first, so that it sets its clocks when it goes on; another
one is saved as it stands, and sees nothing of it but that time has stood still. What is on its disks stays there:
the file fits them as they are now. FILE may be a pipe, or - for standard output: `xm save web - | ssh other xm restore
-`. The domain ends when all of it has been read, whatever the reader makes of it; if the reader goes away before, or
stops, it goes on, and what was read is of no use."""


def parser() -> Parser:
    p = command("save", SUMMARY, EPILOG)
    p.add_argument(
        "-c",
        "--checkpoint",
        action="store_true",
        help="let the domain go on; it is held for a moment only, and what is on its disks is kept as well",
    )
    p.add_argument(
        "-m",
        "--memory-only",
        action="store_true",
        help="with -c, do not keep what is on its disks: the file fits as long as nothing is written to them",
    )
    p.add_argument(
        "-s", "--as-it-stands", action="store_true", help="do not ask the guest to suspend itself first"
    )
    json_option(p)
    domain_argument(p)
    p.add_argument("file", metavar=FILE, help="the file to write; one of that name is replaced; or -")
    return p


def run(argv: Sequence[str]) -> int:
    from xenion.xm.calls import connected
    from xenion.xm.errors import UsageError
    from xenion.xm.output import complain, escaped, print_json, remark
    from xenion.xm.progress import accomplish
    from xenion.xm.streams import to_write

    args = parse(parser(), argv)
    if args.memory_only and not args.checkpoint:
        raise UsageError("--memory-only goes with --checkpoint only: a domain that ends writes to no disk")
    body = {"keep": args.checkpoint, "as_it_stands": args.as_it_stands}
    body |= {"memory_only": True} if args.memory_only else {}
    with to_write(args.file) as place, connected() as client:
        if args.json and place.standard:
            raise UsageError("--json and the domain itself cannot both be on standard output")
        body["path"] = place.path
        result = accomplish(client, "save", body, domain=args.domain)
    if result["path"] == place.path:
        result["path"] = place.name
    if args.json:
        print_json(result)
        return 0
    remark(result)
    held = f"; it stood still for {result['held_s'] * 1000:.0f} ms" if args.checkpoint else ""
    if place.standard:
        complain(f"the domain is in what was written to {result['path']}{held}")
    else:
        print(f"The domain is in {escaped(result['path'])}{held}")
    return 0
