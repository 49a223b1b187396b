"""xm vcpu-list: domains' virtual CPUs."""

from collections.abc import Sequence
from typing import Any

from xenion.xm.arguments import Parser, command, domain_argument, json_option, parse

SUMMARY = "list domains' virtual CPUs"
EPILOG = "The letters of State: r running, b blocked, p paused; --- is offline."
LETTERS = {"running": "r--", "blocked": "-b-", "paused": "--p"}


def parser() -> Parser:
    p = command("vcpu-list", SUMMARY, EPILOG)
    json_option(p)
    domain_argument(p, "*", "name, id or UUID; all that run if left out")
    return p


def run(argv: Sequence[str]) -> int:
    from xenion.xm.calls import connected, on_each
    from xenion.xm.output import print_json

    args = parse(parser(), argv)
    found: list[Any] = []
    with connected() as client:
        if args.domains:
            status = on_each(
                args.domains, lambda name: found.extend(client.call("vcpus", domain=name)["vcpus"])
            )
        else:
            status = 0
            found = all_vcpus(client)
    if args.json:
        print_json(found)
    else:
        print(f"{'Name':<33} {'ID':>4} {'VCPU':>5} {'CPU':>5} {'State':>5} {'Time(s)':>9} CPU Affinity")
        print(end="".join(f"{line_of(vcpu)}\n" for vcpu in found))
    return status


def all_vcpus(client: Any) -> list[Any]:
    """Of the domains that run."""
    from xenion.xm.calls import of_running

    return [vcpu for answer in of_running(client, "vcpus", host=True) for vcpu in answer["vcpus"]]


def line_of(vcpu: Any) -> str:
    from xenion.xm.output import escaped

    cpu = "-" if vcpu["cpu"] is None else vcpu["cpu"]
    return (
        f"{escaped(vcpu['name']):<33} {vcpu['domid']:>4} {vcpu['vcpu']:>5} {cpu:>5} "
        f"{LETTERS.get(vcpu['state'], '---'):>5} {vcpu['cpu_seconds']:>9.1f} {escaped(vcpu['affinity'])}"
    )
