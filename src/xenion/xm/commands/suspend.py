"""xm suspend: keep a managed domain's memory and end it."""

from collections.abc import Sequence

from xenion.xm.arguments import Parser, command, domain_argument, parse

SUMMARY = "keep a managed domain's memory and end it; xm resume lets it go on"
EPILOG = """xend looks after the file. What is said of xm save holds here, too."""


def parser() -> Parser:
    p = command("suspend", SUMMARY, EPILOG)
    p.add_argument(
        "-s", "--as-it-stands", action="store_true", help="do not ask the guest to suspend itself first"
    )
    domain_argument(p)
    return p


def run(argv: Sequence[str]) -> int:
    from xenion.xm.calls import connected
    from xenion.xm.output import remark
    from xenion.xm.progress import accomplish

    args = parse(parser(), argv)
    with connected() as client:
        result = accomplish(client, "suspend", {"as_it_stands": args.as_it_stands}, domain=args.domain)
    remark(result)
    return 0
