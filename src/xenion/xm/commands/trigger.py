"""xm trigger: send an event to a virtual CPU."""

from collections.abc import Sequence

from xenion.xm.arguments import Parser, command, domain_argument, natural_up_to, parse

SUMMARY = "send an event to a virtual CPU"


def parser() -> Parser:
    p = command("trigger", SUMMARY)
    domain_argument(p)
    p.add_argument("trigger", choices=("nmi", "reset", "init", "s3resume"), help="the event")
    p.add_argument(
        "vcpu",
        metavar="VCPU",
        nargs="?",
        type=natural_up_to(63),
        default=0,
        help="its number, at most 63; 0 if left out",
    )
    return p


def run(argv: Sequence[str]) -> int:
    from xenion.xm.calls import connected

    args = parse(parser(), argv)
    with connected() as client:
        client.call("trigger", {"trigger": args.trigger, "vcpu": args.vcpu}, domain=args.domain)
    return 0
