"""xm network-detach: take a network interface from a domain."""

from collections.abc import Sequence

from xenion.xm.arguments import Parser, command, domain_argument, parse

SUMMARY = "take a network interface from a domain"


def parser() -> Parser:
    from xenion.xm.devices import force_option, interface_argument

    p = command("network-detach", SUMMARY)
    force_option(p)
    domain_argument(p)
    interface_argument(p)
    return p


def run(argv: Sequence[str]) -> int:
    from xenion.xm.calls import certain, connected
    from xenion.xm.devices import interfaces, is_gone, is_interface

    args = parse(parser(), argv)
    query = {"force": "true"} if args.force else None
    with connected() as client:
        certain(
            lambda: client.call("detach_interface", query=query, domain=args.domain, device=args.device),
            lambda: is_gone(client, interfaces, args.domain, is_interface(args.device)),
        )
    return 0
