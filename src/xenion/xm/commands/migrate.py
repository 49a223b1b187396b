"""xm migrate: move a running domain to another host."""

import argparse
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from xenion.xm.arguments import Parser, command, domain_argument, json_option, natural_up_to, parse

SUMMARY = "move a running domain to another host"
EPILOG = """HOST is a name or address, with :PORT if it is not 8002; the xend there has to listen for it ([migration] in
its xend.toml). With --ssh it need listen on 127.0.0.1 only; HOST may be USER@HOST then, and xend's user has to get in
with a key. With --live most of the memory is copied while the guest runs, so that it stands still for a moment
only; without, it is asked to suspend itself first. Disks that it writes have to be on storage that both hosts reach
under the same path. Whatever goes wrong leaves it running here; if the last answer is lost it is held until the other
host can be asked, or --resolve says where it goes on."""
MOST = 1 << 30


def parser() -> Parser:
    p = command("migrate", SUMMARY, EPILOG)
    p.add_argument("-l", "--live", action="store_true", help="copy most of the memory while the guest runs")
    p.add_argument("-p", "--port", type=natural_up_to(65535, 1), metavar="N", help="of the other host's xend")
    p.add_argument("-s", "--ssl", action="store_true", help="talk to it through TLS")
    p.add_argument(
        "--ssh", action="store_true", help="go through ssh to a xend that listens on its own host's loopback"
    )
    p.add_argument(
        "-r",
        "--resource",
        type=natural_up_to(MOST, 1),
        metavar="MBIT",
        help="send at most so many Mbit a second",
    )
    p.add_argument("--check", action="store_true", help="only tell whether the other host would take it")
    p.add_argument(
        "--abort-after-downtime",
        type=natural_up_to(MOST, 1),
        metavar="MS",
        help="let it stay if it is likely to stand still for longer",
    )
    p.add_argument("--as-it-stands", action="store_true", help="do not ask the guest to suspend itself first")
    p.add_argument(
        "--same-disks", action="store_true", help="devices of the same path are the same on both hosts"
    )
    p.add_argument("-v", "--verbose", action="store_true", help="print a line for each round of copying")
    p.add_argument(
        "--resolve",
        choices=("source", "target"),
        help="say where a domain goes on whose last answer was lost (there is no HOST then)",
    )
    json_option(p)
    domain_argument(p)
    p.add_argument("host", metavar="HOST", nargs="?", help="where it goes")
    return p


def run(argv: Sequence[str]) -> int:
    from xenion.xm.calls import connected
    from xenion.xm.errors import UsageError
    from xenion.xm.output import print_json, remark
    from xenion.xm.progress import accomplish

    args = parse(parser(), argv)
    if (args.resolve is None) != (args.host is not None):
        raise UsageError('give HOST, or --resolve without it; see "xm migrate -h"')
    if args.abort_after_downtime is not None and not args.live:
        raise UsageError('--abort-after-downtime is for --live; see "xm migrate -h"')
    if args.ssl and args.ssh:
        raise UsageError('--ssl and --ssh do not go together; see "xm migrate -h"')
    with connected() as client:
        if args.resolve is not None:
            client.call("resolve", {"goes_on": args.resolve}, domain=args.domain)
            return 0
        seen = _Rounds(show=args.verbose and not args.json)
        result = accomplish(client, "migrate", _body(args), seen.look, domain=args.domain)
    if args.json:
        print_json(result)
        return 0
    remark(result)
    print(_said(args.domain, result))
    return 0


def _body(args: argparse.Namespace) -> dict[str, Any]:
    host, port = _address(args.host, args.port)
    given = {
        "host": host,
        "port": port,
        "most_mbit_per_s": args.resource,
        "abort_after_downtime_ms": args.abort_after_downtime,
    }
    return {
        **{key: value for key, value in given.items() if value is not None},
        "ssl": args.ssl,
        **({"ssh": True} if args.ssh else {}),
        "live": args.live,
        "check": args.check,
        "as_it_stands": args.as_it_stands,
        "same_disks": args.same_disks,
    }


def _address(said: str, port: int | None) -> tuple[str, int | None]:
    """HOST, HOST:PORT, [ADDRESS]:PORT or an IPv6 address. UsageError."""
    from xenion.xm.errors import UsageError

    host, colon, number = said.rpartition(":")
    if not colon or said.endswith("]") or (":" in host and not host.startswith("[")):
        host = said
    elif port is None and number.isdecimal() and len(number) <= 5:
        port = int(number)
    else:
        host = ""
    host = host.strip("[]")
    if not host or (port is not None and not 0 < port < 65536):
        raise UsageError(f'"{said}" is not HOST or HOST:PORT; see "xm migrate -h"')
    return host, port


def _said(domain: str, result: dict[str, Any]) -> str:
    from xenion.xm.output import escaped

    where = escaped(result["host"])
    if result.get("checked"):
        return f"{where} would take {escaped(domain)}"
    sent = result["sent_bytes"] / (1 << 20)
    return (
        f"{escaped(domain)} runs on {where} as domain {result['domid']}: it stood still for "
        f"{result['downtime_s'] * 1000:.0f} ms, {sent:.1f} MiB were sent in {result['seconds']:.1f} s"
    )


class _Rounds:
    """Prints each round once."""

    def __init__(self, *, show: bool) -> None:
        self._show = show
        self._last = 0

    def look(self, task: Any) -> None:
        figures = task.get("figures") or {}
        if self._show and figures.get("round", 0) > self._last:
            self._last = figures["round"]
            print(_line(figures), flush=True)


def _line(figures: dict[str, float]) -> str:
    """The domain's process has told them: some may be missing."""
    mib, one = 4096 / (1 << 20), defaultdict(float, figures)
    return (
        f"round {one['round']:2.0f}: {one['pages']:8.0f} pages copied in {one['seconds']:7.3f} s "
        f"({one['copied_per_s'] * mib:6.0f} MiB/s), {one['written_pages']:7.0f} written meanwhile "
        f"({one['written_per_s'] * mib:6.0f} MiB/s), {one['hot_pages']:6.0f} of them each time; "
        f"the rest would take {one['downtime_s'] * 1000:.0f} ms"
    )
