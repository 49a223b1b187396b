"""xm resume: let a suspended domain go on."""

from collections.abc import Sequence

from xenion.xm.arguments import Parser, command, domain_argument, json_option, parse

SUMMARY = "let a domain go on that xm suspend has ended"


def parser() -> Parser:
    p = command("resume", SUMMARY)
    p.add_argument("-p", "--paused", action="store_true", help="leave it paused")
    json_option(p)
    domain_argument(p)
    return p


def run(argv: Sequence[str]) -> int:
    from xenion.xm.calls import connected
    from xenion.xm.output import escaped, print_json
    from xenion.xm.progress import accomplish

    args = parse(parser(), argv)
    with connected() as client:
        result = accomplish(client, "resume", {"paused": args.paused}, domain=args.domain)
    if args.json:
        print_json(result)
    else:
        print(f"{escaped(result['domain']['name'])} goes on")
    return 0
