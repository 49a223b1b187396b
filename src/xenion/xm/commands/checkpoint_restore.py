"""xm checkpoint-restore: go back to a checkpoint."""

from collections.abc import Sequence
from typing import Any

from xenion.xm.arguments import Parser, command, domain_argument, json_option, parse

SUMMARY = "go back to a checkpoint of a domain that does not run"
EPILOG = """Its disks are what they were then. What was written to them since is lost, unless a later checkpoint has it:
then that can still be gone back to."""


def parser() -> Parser:
    p = command("checkpoint-restore", SUMMARY, EPILOG)
    p.add_argument("-p", "--paused", action="store_true", help="leave it paused")
    json_option(p)
    domain_argument(p)
    p.add_argument("name", metavar="NAME", nargs="?", help="of the checkpoint; the newest if left out")
    return p


def run(argv: Sequence[str]) -> int:
    from xenion.xm.calls import connected
    from xenion.xm.output import escaped, print_json
    from xenion.xm.progress import accomplish

    args = parse(parser(), argv)
    with connected() as client:
        kept = client.call("checkpoints", domain=args.domain)
        found = chosen(kept["checkpoints"], args.domain, args.name)
        body = {"path": found["path"], "name": kept["domain"], "paused": args.paused, "back": True}
        result = accomplish(client, "restore", body)
    if args.json:
        print_json(result)
    else:
        print(f"{escaped(result['domain']['name'])} goes on from {escaped(found['name'])}")
    return 0


def chosen(found: list[Any], domain: str, name: str | None) -> Any:
    """XmError."""
    from xenion.xm.errors import XmError

    fitting = [one for one in found if name in (None, one["name"])]
    if not fitting:
        what = "no checkpoints" if name is None else f'no checkpoint "{name}"'
        raise XmError(f"{domain} has {what}: `xm checkpoint-list {domain}` shows what there is")
    return fitting[-1]
