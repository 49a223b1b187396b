"""xm sched-credit: weights and caps of domains."""

from collections.abc import Sequence
from typing import Any

from xenion.xm.arguments import Parser, command, domain_word, json_option, natural_up_to, parse

SUMMARY = "show or change what domains get of the host's CPUs"
EPILOG = (
    "A domain of twice the weight gets twice as much where both want all they can get; 256 is an ordinary one's. A cap "
    "is the most that it gets, in percent of one CPU; 0: no limit. What is changed holds until the guest's next boot."
)


def parser() -> Parser:
    p = command("sched-credit", SUMMARY, EPILOG)
    json_option(p)
    p.add_argument(
        "-d",
        "--domain",
        metavar="DOMAIN",
        type=domain_word,
        help="name, id or UUID; all that run if left out",
    )
    p.add_argument("-w", "--weight", metavar="WEIGHT", type=natural_up_to(65535, least=1), help="its weight")
    p.add_argument("-c", "--cap", metavar="PERCENT", type=natural_up_to(6400), help="its cap")
    return p


def run(argv: Sequence[str]) -> int:
    from xenion.xm.calls import connected, of_running, replaced
    from xenion.xm.output import print_json

    p = parser()
    args = parse(p, argv)
    changes = {key: value for key in ("weight", "cap") if (value := getattr(args, key)) is not None}
    if changes and args.domain is None:
        p.error("whose is to be changed? name it with -d")
    with connected() as client:
        if changes:
            replaced(client, "set_share", changes, domain=args.domain)
            return 0
        one = args.domain
        found = [client.call("share", domain=one)] if one else of_running(client, "share", host=False)
    if args.json:
        print_json(found)
    else:
        print(f"{'Name':<33} {'ID':>4} {'Weight':>6} {'Cap':>4}")
        print(end="".join(f"{_line(share)}\n" for share in found))
    return 0


def _line(share: Any) -> str:
    from xenion.xm.output import escaped

    return f"{escaped(share['name']):<33} {share['domid']:>4} {share['weight']:>6} {share['cap']:>4}"
