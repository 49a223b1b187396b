"""docs/api.md, made from the typed list of actions: `python -m xenion.api.reference > docs/api.md`."""

import ast
import inspect
import re
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import pairwise
from typing import Annotated, Any, Literal, NamedTuple, NotRequired, get_args, get_origin, get_type_hints

from xenion.api import errors, types
from xenion.api.actions import ACTIONS, Action
from xenion.api.types import Limit

PARAMETERS = {
    "domain": "a domain's name, id or UUID",
    "task": "a task's id",
    "uuid": "the UUID of a domain, which may be over",
    "vdev": "a disk's canonical name, such as xvda",
    "device": "a network interface's number or MAC address",
    "capture": "a capture's id",
    "checkpoint": "a checkpoint's name",
}

HEAD = """\
# The API

What `xm` does goes through this API of `xend`, and so can what your programs do. This page is made from the
typed list of actions, `src/xenion/api/actions.py`, by `python -m xenion.api.reference`; do not edit it. A
running xend has the same list as an OpenAPI 3.1 document, `/v1/openapi.json`; `xm call --list` shows it in short.

Requests and answers are HTTP/1.1 and JSON. Times are seconds since the epoch, memory is MiB, durations are
seconds.

## Reaching it

xend listens on a Unix socket that only its own user and root can open: `/run/xenion/xend.sock` for root,
`$XDG_RUNTIME_DIR/xenion/xend.sock` for others; `xend_socket` of `xm info --json` names it. No token is needed
there.

```sh
xend start                               # unless it runs; xm does this by itself
S=$XDG_RUNTIME_DIR/xenion/xend.sock
curl --unix-socket $S http://xend/v1/info
curl --unix-socket $S http://xend/v1/domains
curl --unix-socket $S http://xend/v1/domains \\
    --json '{"config": {"name": "web", "kernel": "/boot/vmlinuz", "memory_mib": 256}}'
curl --unix-socket $S -X POST http://xend/v1/domains/web/pause
curl --unix-socket $S -X POST http://xend/v1/domains/web/destroy
```

`xm call METHOD PATH` does the same without curl. Over TLS, when it is configured ([xend.md](xend.md#over-tls)),
each request carries the token:

```sh
curl --cacert xend.crt -H "Authorization: Bearer $(cat xend.token)" https://HOST:8006/v1/domains
```

A body is sent as `Content-Type: application/json` and may be left out where none of its fields is needed. What
an action does not know in a body or a query is refused, and so is JSON with a field twice, with NaN or with more
than 64 bits in an integer. The `config` of a body is described in [config.md](config.md#as-json).

## What takes long

`create`, `start`, `restore`, `shutdown`, `save`, `checkpoint`, `merge_checkpoints`, `migrate` and `dump` answer 202
with a [`Task`](#type-task), which goes on by itself. Follow it by asking for it with `wait` and the `seen` of the last
answer: that answers as soon as the task has changed.

```sh
curl --unix-socket $S "http://xend/v1/tasks/$ID?wait=20&seen=$SEEN"
curl --unix-socket $S -X DELETE "http://xend/v1/tasks/$ID"      # cancels it
```

Its `result`, once its `state` is `done`:

| action | result |
|---|---|
| `create`, `start` | `domain`: the domain, which runs, or is paused before its first instruction |
| `restore` | `domain`: the domain, which runs or is paused where it was saved |
| `save` | `path` and `size` in bytes of the file, `remarks`: what there is to say about it; with `keep`, `held_s`: \
for how many seconds the guest stood still |
| `checkpoint` | as `save` with `keep`, and its `name` |
| `merge_checkpoints` | `merged`: how many files went into others |
| `migrate` | `host` and `domid`: where it runs; `seconds` in all, `downtime_s` without the guest, `sent_bytes`, \
`rounds` (the figures of each), `remarks`; with `check`, `checked` |
| `shutdown` | `reason`: why the domain stopped, or `reboot` |
| `dump` | `path` and `size` in bytes of the core, `remarks`: what it lacks |

A cancelled `create` leaves no domain, a cancelled `dump` no file, a cancelled `save` no file and the domain as it
was, a cancelled `migrate` the domain where it was; a guest that was asked to shut down still
may. Tasks that are over are kept for ten minutes. A xend that is restarted forgets its tasks: send `create` and
`start` again with the same `request` word, and they find the domain that the first request made.

## Following the event log

`GET /v1/events` is the event log as it grows, as server-sent events. With `since`, or with the header
`Last-Event-ID`, it begins behind that entry, so that a client which comes again misses nothing. A client that
takes entries too slowly is let go, and comes again in the same way.

```sh
curl -N --unix-socket $S "http://xend/v1/events?since=0"
```

## Attending a console

`GET /v1/domains/{domain}/console` is a WebSocket. Its first message is a text, `{"first": N, "lost": M}`: the
number of the byte that comes next (the first byte that the guest ever wrote is number 0), and how many between
`since` and it are not kept any more. Then come binary messages both ways; where one ends means nothing. It closes
with 1000 when the console has closed or the client was too slow, and with 4000 plus the HTTP status when it is
refused: 4404, no such domain. On xend's own host the socket that a domain's `console` names gives the same
without a WebSocket ([xend.md](xend.md#the-console-protocol)).

## Disks and interfaces

Devices are attached to domains that run, and detached from them; their configuration, and a managed domain's
definition, follows. Limits and what is in a CD-ROM drive change at once. A guest must let go of a device that is
detached: with `force` that is not waited for.

```sh
curl --unix-socket $S http://xend/v1/domains/web/disks --json '{"disk": {"target": "/srv/b.img", "vdev": "xvdb"}}'
curl --unix-socket $S -X DELETE "http://xend/v1/domains/web/disks/xvdb?force=true"
```

A capture goes to a file on xend's host until it is stopped, the interface is gone, or nobody reads the FIFO any more.
"""

ERRORS = """\
## Refusals

A refusal is `{"error": {"code": CODE, "message": SENTENCE}}`: the code is for programs, the sentence for people.
`bad-request` comes as 415 when the body is not sent as JSON and as 426 where a WebSocket is served; a head that
is too large comes as 431. A 500 says `failed`: something of the host's or of xend's broke."""

_NAMES = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    type(None): "null",
    Any: "any",
}
_BIG = 1 << 53


class Field(NamedTuple):
    """One field of a body, a query or an answer; `needed`: it may not be left out."""

    name: str
    type: str
    needed: bool
    text: str


def page() -> str:
    """The whole document."""
    return "\n".join([HEAD, *_overview(), *_sections(), *_answers(), *_errors()])


# --- actions


def _overview() -> Iterator[str]:
    yield "## All actions\n"
    yield "| action | method and path | what it does | in the event log |\n|---|---|---|---|"
    for action in ACTIONS:
        logged = "yes" if action.logged else ""
        yield f"| [{action.name}](#{action.name}) | `{action.method} {action.path}` | {action.summary} | {logged} |"
    yield ""


def _sections() -> Iterator[str]:
    yield "## Each action\n"
    for action in ACTIONS:
        yield f"### {action.name}\n"
        yield f"`{action.method} {action.path}`\n"
        yield f"{action.summary}.\n"
        yield from _path_parameters(action)
        yield from _fields("In the query", action.query)
        yield from _fields("In the body", action.body)
        yield f"{_answer(action)}\n"


def _path_parameters(action: Action) -> Iterator[str]:
    for name in re.findall(r"{(\w+)}", action.path):
        yield f"`{name}`: {PARAMETERS[name]}.\n"


def _fields(title: str, kind: Any) -> Iterator[str]:
    if kind is None:
        return
    yield f"{title}:\n"
    yield "| field | type | needed | |\n|---|---|---|---|"
    for field in fields_of(kind):
        yield f"| `{field.name}` | {field.type} | {'yes' if field.needed else 'no'} | {field.text} |"
    yield ""


def _answer(action: Action) -> str:
    if action.kind == "websocket":
        return "The answer is a WebSocket: see [above](#attending-a-console)."
    if action.kind == "events":
        return f"The answer is a stream of server-sent events, each with {_link(action.result)} as its data."
    if action.result is types.Nothing:
        return f"Answer: {action.status} and an empty object."
    return f"Answer: {action.status} and {_link(action.result)}."


def _link(kind: Any) -> str:
    name = kind.__name__
    return f"[`{name}`](#type-{name.lower()})"


# --- answers and errors


def _answers() -> Iterator[str]:
    yield "## Types of answers\n"
    for kind in _kinds():
        yield f"### Type {kind.__name__}\n"
        if text := docstrings()[kind.__name__].get(""):
            yield f"{_line(text)}\n"
        yield "| field | type | |\n|---|---|---|"
        for field in fields_of(kind):
            left_out = "" if field.needed else "May be left out. "
            yield f"| `{field.name}` | {field.type} | {(left_out + field.text).strip()} |"
        yield ""


def _kinds() -> list[Any]:
    """The types of answers and of what is in them, in the source's order, where a type is below what it is made of."""
    wanted = {action.result for action in ACTIONS} - {types.Nothing}
    for kind in list(wanted):
        wanted |= set(_inside(kind))
    return sorted(wanted, key=lambda kind: list(docstrings()).index(kind.__name__))


def _inside(kind: Any) -> Iterator[Any]:
    for hint in get_type_hints(kind).values():
        yield from (part for part in (hint, *get_args(hint)) if hasattr(part, "__required_keys__"))


def _errors() -> Iterator[str]:
    yield f"{ERRORS}\n"
    yield "| code | status |\n|---|---|"
    for code, status in errors.STATUSES.items():
        yield f"| `{code}` | {status} |"
    yield ""


# --- fields


def fields_of(kind: Any) -> list[Field]:
    """Of a TypedDict, in its order."""
    texts, hints = docstrings()[kind.__name__], get_type_hints(kind, include_extras=True)
    return [
        Field(name, _cell(_type(hint)), name in kind.__required_keys__, _cell(_line(texts.get(name, ""))))
        for name, hint in hints.items()
    ]


def _type(hint: Any) -> str:
    """A type in words."""
    if hint in _NAMES:
        return _NAMES[hint]
    if hasattr(hint, "__required_keys__"):
        return _link(hint)
    origin, args = get_origin(hint), get_args(hint)
    if origin is NotRequired:
        return _type(args[0])
    if origin is Annotated:
        return _type(args[0]) + "".join(
            _bounds(args[0], note) for note in args[1:] if isinstance(note, Limit)
        )
    if origin is Literal:
        return ", ".join(f"`{word}`" for word in args)
    if origin is list:
        return f"list of {_type(args[0])}"
    if origin is dict:
        return "object"
    return " or ".join(_type(part) for part in args)


def _bounds(plain: Any, limit: Limit) -> str:
    least, most = limit.ge, "2^53" if limit.le == _BIG else limit.le
    if plain is not str:
        return f", {least} to {most}"
    long = "1 character" if (least, most) == (1, 1) else f"{least} to {most} characters"
    return f" of {long}" + (f", `{limit.pattern}`" if limit.pattern else "")


def _line(text: str) -> str:
    """On one line, in JSON's words."""
    return re.sub(r"\bNone\b", "null", " ".join(text.split()))


def _cell(text: str) -> str:
    return text.replace("|", r"\|")


# --- texts


@cache
def docstrings() -> Mapping[str, Mapping[str, str]]:
    """Type -> field -> the string below the field, which nothing keeps at run time; "" is the type itself.

    A field that has none gets the string below the name of its type, where that is a name of the same module.
    """
    found: dict[str, dict[str, str]] = {}
    body = ast.parse(inspect.getsource(types)).body
    aliases = dict(_described(body))
    for node in body:
        if isinstance(node, ast.ClassDef):
            texts = {"": ast.get_docstring(node) or ""}
            for base in node.bases:
                texts = {**found.get(ast.unparse(base), {}), **texts}
            found[node.name] = {
                **texts,
                **_of_aliases(node, aliases),
                **dict(_described(node.body)),
            }
    return found


def _described(body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    """Names of fields or of types, with the strings below them."""
    for node, below in pairwise(body):
        match node, below:
            case (
                ast.AnnAssign(target=ast.Name(name)) | ast.Assign(targets=[ast.Name(name)]),
                ast.Expr(ast.Constant(str(text))),
            ):
                yield name, inspect.cleandoc(text)


def _of_aliases(node: ast.ClassDef, aliases: Mapping[str, str]) -> dict[str, str]:
    fields = (field for field in node.body if isinstance(field, ast.AnnAssign))
    return {
        ast.unparse(field.target): aliases[ast.unparse(field.annotation)]
        for field in fields
        if ast.unparse(field.annotation) in aliases
    }


if __name__ == "__main__":
    print(page(), end="")
