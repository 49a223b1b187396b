"""xm vcpu-set: how many virtual CPUs a domain has online."""

from collections.abc import Sequence

from xenion.xm.arguments import Parser, command, domain_argument, natural_up_to, parse

SUMMARY = "ask a guest to have so many virtual CPUs online"
EPILOG = "The guest does it soon; maxvcpus in its configuration is the limit. Its next boot begins with vcpus again."


def parser() -> Parser:
    p = command("vcpu-set", SUMMARY, EPILOG)
    domain_argument(p)
    p.add_argument("vcpus", metavar="VCPUS", type=natural_up_to(64, least=1), help="how many")
    return p


def run(argv: Sequence[str]) -> int:
    from xenion.xm.calls import connected, replaced

    args = parse(parser(), argv)
    with connected() as client:
        replaced(client, "set_vcpus", {"vcpus": args.vcpus}, domain=args.domain)
    return 0
