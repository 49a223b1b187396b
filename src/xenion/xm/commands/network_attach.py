"""xm network-attach: give a domain another network interface."""

from collections.abc import Sequence

from xenion.xm.arguments import Parser, command, domain_argument, json_option, parse

SUMMARY = "give a domain another network interface"
EPILOG = """\
SPEC is an interface as in a configuration file, in one word or several; without
one, the interface is on the user network:
  xm network-attach web mac=00:16:3e:12:34:56 bridge=xenbr0
  xm network-attach web forward=tcp:8080:80"""


def parser() -> Parser:
    p = command("network-attach", SUMMARY, EPILOG)
    json_option(p, "print the interface as JSON, for programs")
    domain_argument(p)
    p.add_argument("specs", metavar="SPEC", nargs="*", help="KEY=VALUE, as xm and xl write it")
    return p


def run(argv: Sequence[str]) -> int:
    from xenion.xm.calls import connected
    from xenion.xm.devices import vif_of
    from xenion.xm.output import print_json

    args = parse(parser(), argv)
    vif = vif_of(args.specs)
    with connected() as client:
        info = client.call("attach_interface", {"vif": vif.to_mapping()}, domain=args.domain)
    if args.json:
        print_json(info)
    else:
        print(f"Attached interface {info['devid']} ({info['mac']})")
    return 0
