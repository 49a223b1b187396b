"""xm rename: give a domain another name."""

from collections.abc import Sequence

from xenion.xm.arguments import Parser, command, domain_argument, parse

SUMMARY = "give a domain another name"


def parser() -> Parser:
    p = command("rename", SUMMARY)
    domain_argument(p)
    p.add_argument("name", metavar="NAME", help="the new name")
    return p


def run(argv: Sequence[str]) -> int:
    from xenion.xm.calls import change, connected

    args = parse(parser(), argv)
    with connected() as client:
        # The old name means nobody, or somebody else, once it is done: the UUID is asked for.
        uuid = client.call("domain", domain=args.domain)["uuid"]
        change(
            client,
            "rename",
            uuid,
            {"name": args.name},
            done=lambda domain: domain is not None and domain["name"] == args.name,
        )
    return 0
