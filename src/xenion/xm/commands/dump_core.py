"""xm dump-core: write a guest's memory to a file."""

from collections.abc import Sequence

from xenion.xm.arguments import FILE, Parser, command, domain_argument, json_option, parse

SUMMARY = "write a guest's memory and registers to an ELF core file that gdb opens"


def parser() -> Parser:
    p = command("dump-core", SUMMARY)
    p.add_argument("-L", "--live", action="store_true", help="do not pause the guest meanwhile")
    p.add_argument("-C", "--crash", action="store_true", help="end the domain afterwards")
    json_option(p)
    domain_argument(p)
    p.add_argument(
        "file", metavar=FILE, nargs="?", help="the core file; one in xend's folder of dumps if left out"
    )
    return p


def run(argv: Sequence[str]) -> int:
    import os

    from xenion.xm.calls import connected
    from xenion.xm.output import escaped, print_json, remark
    from xenion.xm.progress import accomplish

    args = parse(parser(), argv)
    path = os.path.abspath(args.file) if args.file else ""  # noqa: PTH100 (links are xend's business)
    body = {"path": path, "live": args.live, "crash": args.crash}
    with connected() as client:
        result = accomplish(client, "dump", body, domain=args.domain)
    if args.json:
        print_json(result)
        return 0
    remark(result)
    print(f"The core is in {escaped(result['path'])}")
    return 0
