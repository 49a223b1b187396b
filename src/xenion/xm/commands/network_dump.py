"""xm network-dump: capture what goes through a domain's network interface."""

from collections.abc import Sequence

from xenion.xm.arguments import FILE, Parser, command, domain_argument, natural_up_to, parse

SUMMARY = "capture what goes through a domain's network interface, as pcap"
EPILOG = """\
It goes on until ctrl-C, and then tells how many packets there were. For example:
  xm network-dump web 0 -w web.pcap
  xm network-dump web 0 | tcpdump -n -r -
Exit status: 0 when it was stopped, 1 when the interface went away."""
SNAPLEN_MAX = 262144


def parser() -> Parser:
    from xenion.xm.devices import interface_argument

    p = command("network-dump", SUMMARY, EPILOG)
    p.add_argument(
        "-w", "--write", metavar=FILE, default="-", help="to this file; else, or with -, to standard output"
    )
    p.add_argument("-c", "--count", metavar="N", type=natural_up_to(1 << 53), help="stop after N packets")
    p.add_argument(
        "-s",
        "--snaplen",
        metavar="N",
        type=natural_up_to(SNAPLEN_MAX),
        help=f"so many bytes of each packet at most, up to {SNAPLEN_MAX}; 0: all of it",
    )
    domain_argument(p)
    interface_argument(p)
    return p


def run(argv: Sequence[str]) -> int:
    import sys

    from xenion.xm.calls import connected
    from xenion.xm.capture import capture
    from xenion.xm.errors import UsageError

    args = parse(parser(), argv)
    body = {"snaplen": args.snaplen} if args.snaplen else {}
    with connected() as client:
        if args.write != "-":
            with open(args.write, "wb") as file:  # noqa: PTH123 (its name goes into the error as it was written)
                return capture(client, args.domain, args.device, body, file, args.count)
        if sys.stdout.isatty():
            raise UsageError("a capture is no text for a terminal: give -w FILE")
        return capture(client, args.domain, args.device, body, sys.stdout.buffer, args.count)
