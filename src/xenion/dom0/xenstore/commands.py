"""CONTROL (docs/misc/xenstore.txt): commands to the daemon itself, from domain 0's tools such as xenstore-control."""

import sys
from collections.abc import Callable

from xenion.abi.errno import Errno
from xenion.dom0.xenstore.check import check
from xenion.dom0.xenstore.connection import Connection
from xenion.dom0.xenstore.errors import StoreError
from xenion.dom0.xenstore.payload import OK, all_strings, domid, number, text
from xenion.dom0.xenstore.quota import NAMES, VALUE_MAX, quota_value
from xenion.dom0.xenstore.store import Store


def control(store: Store, _connection: Connection, _tx_id: int, payload: bytes) -> bytes:
    """<command>|[<parameters>|]"""
    command, *parameters = [text(raw) for raw in all_strings(payload)] or [""]
    if command not in _COMMANDS:
        raise StoreError(Errno.EINVAL, f"no command {command[:40]!r}")
    return _COMMANDS[command][0](store, parameters)


def _check(store: Store, parameters: list[str]) -> bytes:
    _want(parameters, 0)
    found = check(store)
    for line in found:
        print(f"xenstored: {line}", file=sys.stderr)
    return "".join(f"{line}\n" for line in found).encode()[:4000] + b"\0" if found else OK


def _print(_store: Store, parameters: list[str]) -> bytes:
    _want(parameters, 1)
    shown = parameters[0].encode("latin-1").decode("utf-8", "replace")
    print(f"xenstored: control: {''.join(c if c.isprintable() else '?' for c in shown)}", file=sys.stderr)
    return OK


def _quota(store: Store, parameters: list[str]) -> bytes:
    if not parameters:
        lines = [f"{name:<18}: {quota_value(store.quota, name):8}\n" for name in NAMES]
        return f"Quota settings:\n{''.join(lines)}".encode() + b"\0"
    if parameters[0] == "set":
        _want(parameters, 3)
        value = number(parameters[2], VALUE_MAX)
        if not value:
            raise StoreError(Errno.EINVAL, "want a number above 0")
        store.set_quota(None, parameters[1], value)
        return OK
    _want(parameters, 1)
    return _usage(store, domid(parameters[0]))


def _usage(store: Store, number_: int) -> bytes:
    """What a domain has taken."""
    domain = store.domains.get(number_)
    if domain is None:
        raise StoreError(Errno.ENOENT, f"domain {number_} is not introduced")
    guest = domain.guest
    used = {
        "nodes": store.tree.owned_by(number_),
        "watches": len(guest.watches),
        "transactions": len(guest.transactions),
        "outstanding": guest.waiting,
    }
    lines = [
        f"{name:<18}: {count:8} (max {quota_value(guest.quota, name)})\n" for name, count in used.items()
    ]
    return f"Domain {number_}:\n{''.join(lines)}".encode() + b"\0"


def _help(_store: Store, parameters: list[str]) -> bytes:
    _want(parameters, 0)
    return "".join(f"{name:<15} {usage}\n" for name, (_, usage) in _COMMANDS.items()).encode() + b"\0"


def _want(parameters: list[str], count: int) -> None:
    if len(parameters) != count:
        raise StoreError(Errno.EINVAL, f"{len(parameters)} parameters, want {count}")


_COMMANDS: dict[str, tuple[Callable[[Store, list[str]], bytes], str]] = {
    "check": (_check, ""),
    "print": (_print, "<string>"),
    "quota": (_quota, "[set <name> <val>|<domid>]"),
    "help": (_help, ""),
}
