"""xm checkpoint-merge: put together what checkpoints that are gone have left apart."""

from collections.abc import Sequence

from xenion.xm.arguments import Parser, command, domain_argument, json_option, parse

SUMMARY = "merge what checkpoints that are gone have left of a domain's disks"
EPILOG = """Each file that no checkpoint needs apart goes into what is below it; without any checkpoints all is in the
images again that its configuration names. The domain has to be shut down meanwhile."""


def parser() -> Parser:
    p = command("checkpoint-merge", SUMMARY, EPILOG)
    json_option(p)
    domain_argument(p)
    return p


def run(argv: Sequence[str]) -> int:
    from xenion.xm.calls import connected
    from xenion.xm.output import escaped, print_json
    from xenion.xm.progress import accomplish

    args = parse(parser(), argv)
    with connected() as client:
        result = accomplish(client, "merge_checkpoints", None, domain=args.domain)
    if args.json:
        print_json(result)
    elif not result["merged"]:
        print(f"{escaped(args.domain)} has nothing to merge")
    else:
        many = "file" if result["merged"] == 1 else "files"
        print(f"{result['merged']} {many} of {escaped(args.domain)} merged")
    return 0
