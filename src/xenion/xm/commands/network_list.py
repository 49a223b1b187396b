"""xm network-list: domains' network interfaces."""

from collections.abc import Sequence
from typing import Any

from xenion.xm.arguments import Parser, command, domain_argument, parse

SUMMARY = "list domains' network interfaces"
HEADER = f"{'Name':<24} {'Idx':>3} {'MAC Addr.':<17} {'State':<12} {'Network':<24} Addresses and forwards"


def parser() -> Parser:
    from xenion.xm.devices import listing_options

    p = command("network-list", SUMMARY)
    listing_options(p, "interface")
    domain_argument(p, "+")
    return p


def run(argv: Sequence[str]) -> int:
    from xenion.xm.calls import connected, on_each
    from xenion.xm.devices import interfaces, show

    args = parse(parser(), argv)
    found: list[Any] = []
    with connected() as client:
        status = on_each(args.domains, lambda name: found.extend(interfaces(client, name)))
    show(found, args, HEADER, line_of)
    return status


def line_of(device: Any) -> str:
    from xenion.xm.output import escaped

    network = f"{device['attachment']} {device['network']}".rstrip()
    places = " ".join([*device["addresses"], *map(_as_written, device["forwards"])]) or "-"
    return (
        f"{escaped(device['domain']):<24} {device['devid']:>3} {escaped(device['mac']):<17} {device['state']:<12} "
        f"{escaped(network):<24} {escaped(places)}"
    )


def _as_written(forward: Any) -> str:
    """As `forward=` takes it."""
    from xenion.config.vif import Forward
    from xenion.config.vifspec import write_forward

    fields = ("protocol", "host_address", "host_port", "guest_port")
    return write_forward(Forward(**{name: forward[name] for name in fields}))
