"""xm call: call xend's API directly."""

from collections.abc import Sequence
from typing import Any

from xenion.xm.arguments import Parser, command, json_option, parse

SUMMARY = "call xend's HTTP API"
EPILOG = """\
NAME=VALUE is a text, NAME:=VALUE is JSON. The fields are the request's JSON
body; those of GET and DELETE its query. For example:
  xm call POST /v1/domains/web/shutdown mode=halt
  xm call GET /v1/log last:=5
Exit status: 0 with the answer, 1 when xend refuses."""
BODILESS = ("GET", "DELETE")


def parser() -> Parser:
    p = command("call", SUMMARY, EPILOG)
    p.add_argument("--list", action="store_true", help="list all actions: method, path, summary")
    json_option(p, "with --list: print JSON; answers always are")
    p.add_argument(
        "method",
        metavar="METHOD",
        nargs="?",
        type=str.upper,
        choices=("GET", "POST", "PUT", "DELETE"),
        help="GET, POST, PUT or DELETE",
    )
    p.add_argument("path", metavar="PATH", nargs="?", help="as --list tells it, with {...} filled in")
    p.add_argument("fields", metavar="FIELD", nargs="*", help="NAME=TEXT or NAME:=JSON")
    return p


def run(argv: Sequence[str]) -> int:
    from xenion.xm.errors import UsageError

    args = parse(parser(), argv)
    if args.list:
        _list(as_json=args.json)
        return 0
    if args.path is None or not args.path.startswith("/"):
        raise UsageError('give METHOD and PATH, as "xm call --list" tells them')
    return _call(args.method, args.path, _fields(args.fields))


def _list(*, as_json: bool) -> None:
    from xenion.api.actions import ACTIONS
    from xenion.xm.output import print_json

    if as_json:
        keys = ("name", "method", "path", "summary")
        print_json([{key: getattr(action, key) for key in keys} for action in ACTIONS])
        return
    width = max(len(action.path) for action in ACTIONS)
    for action in ACTIONS:
        print(f"{action.method:<6} {action.path:<{width}}  {action.summary}")


def _fields(words: Sequence[str]) -> dict[str, Any]:
    """UsageError."""
    import json

    from xenion.xm.errors import UsageError

    values: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or name in ("", ":"):
            raise UsageError(f'"{word}" is neither NAME=TEXT nor NAME:=JSON')
        try:
            values[name.removesuffix(":")] = json.loads(text) if name.endswith(":") else text
        except (ValueError, RecursionError) as error:
            raise UsageError(f'the value of "{word}" is not JSON: {error}') from None
    return values


def _call(method: str, path: str, fields: dict[str, Any]) -> int:
    """Errors of the API have status 1, whatever they say of the request: the call itself was made."""
    from urllib.parse import quote

    from xenion.api.errors import ApiError
    from xenion.xm.calls import connected
    from xenion.xm.errors import XmError
    from xenion.xm.output import print_json

    path = quote(path, safe="/?&=%:;,+@!$'()*~")
    body = None if method in BODILESS else fields
    if method in BODILESS and fields:
        path += ("&" if "?" in path else "?") + _query(fields)
    with connected() as client:
        try:
            if method == "GET" and path.partition("?")[0] == "/v1/events":
                _stream(client, fields)
                return 0
            print_json(client.request(method, path, body, repeat=method == "GET"))
        except ApiError as error:
            raise XmError(error.message) from error
    return 0


def _query(fields: dict[str, Any]) -> str:
    import json
    from urllib.parse import urlencode

    return urlencode({name: v if isinstance(v, str) else json.dumps(v) for name, v in fields.items()})


def _stream(client: Any, fields: dict[str, Any]) -> None:
    """Entries as they come, for ever."""
    import json

    for entry in client.events(fields.get("since")):
        print(json.dumps(entry), flush=True)
