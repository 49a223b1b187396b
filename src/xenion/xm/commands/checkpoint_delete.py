"""xm checkpoint-delete: forget checkpoints."""

from collections.abc import Sequence

from xenion.xm.arguments import Parser, command, domain_argument, parse

SUMMARY = "forget checkpoints of a domain"
EPILOG = """Their files go; those that xm save has written stay, though nothing can go back to them any more. What was
kept of the disks goes as far as nobody needs it; xm checkpoint-merge puts the rest together."""


def parser() -> Parser:
    p = command("checkpoint-delete", SUMMARY, EPILOG)
    domain_argument(p)
    p.add_argument("names", metavar="NAME", nargs="+", help="of a checkpoint")
    return p


def run(argv: Sequence[str]) -> int:
    from xenion.xm.calls import connected, on_each

    args = parse(parser(), argv)
    with connected() as client:
        return on_each(
            args.names, lambda name: client.call("delete_checkpoint", domain=args.domain, checkpoint=name)
        )
