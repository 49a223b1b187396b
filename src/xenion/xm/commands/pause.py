"""xm pause: stop domains' virtual CPUs."""

from collections.abc import Sequence

from xenion.xm.arguments import Parser, command, domain_argument, parse

SUMMARY = "stop domains' virtual CPUs until xm unpause"


def parser() -> Parser:
    p = command("pause", SUMMARY)
    domain_argument(p, "+")
    return p


def run(argv: Sequence[str]) -> int:
    from xenion.xm.calls import change, connected, on_each

    args = parse(parser(), argv)
    with connected() as client:
        return on_each(
            args.domains,
            lambda name: change(
                client,
                "pause",
                name,
                done=lambda domain: domain is not None and domain["state"] == "paused",
            ),
        )
