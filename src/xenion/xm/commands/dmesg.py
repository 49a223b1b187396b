"""xm dmesg: the hypervisor's message ring."""

from collections.abc import Sequence

from xenion.xm.arguments import Parser, command, json_option, parse

SUMMARY = "show the hypervisor's messages"


def parser() -> Parser:
    p = command("dmesg", SUMMARY)
    p.add_argument("-c", "--clear", action="store_true", help="empty the ring, too")
    json_option(p)
    return p


def run(argv: Sequence[str]) -> int:
    from xenion.xm.calls import connected
    from xenion.xm.output import escaped, print_json

    args = parse(parser(), argv)
    with connected() as client:
        answer = client.call("clear_dmesg" if args.clear else "dmesg")
    if args.json:
        print_json(answer)
    else:
        text = escaped(answer["text"], keep="\n\t")
        print(text, end="" if not text or text.endswith("\n") else "\n")
    return 0
