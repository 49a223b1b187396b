"""What each request of the wire protocol does (docs/misc/xenstore.txt): decode, act on the store, encode.

A declaration: request type, handler. A type without a handler answers ENOSYS.
"""

import re
from collections.abc import Callable

from xenion.abi.errno import Errno
from xenion.abi.io.xs_wire import XENSTORE_PAYLOAD_MAX, XsdSockmsgType
from xenion.abi.xen import DOMID_SELF
from xenion.dom0.xenstore.connection import Connection
from xenion.dom0.xenstore.errors import StoreError
from xenion.dom0.xenstore.perms import DOMID_MAX, parse_perm
from xenion.dom0.xenstore.store import Store
from xenion.dom0.xenstore.wire import Message

Handler = Callable[[Store, Connection, int, bytes], bytes]
"""Takes store, client, transaction id and payload; returns the reply's payload or raises StoreError."""

_OK = b"OK\0"
_ERROR = int(XsdSockmsgType.ERROR)
_WATCH = int(XsdSockmsgType.WATCH)
_decimal = re.compile(r"[0-9]{1,10}", re.ASCII).fullmatch


def handle(store: Store, connection: Connection, request: Message) -> None:
    """Serve one request: its reply and the events it causes are queued on the connections concerned."""
    kind, req_id, tx_id, payload = request
    try:
        reply = _serve(store, connection, kind, tx_id, payload)
    except StoreError as error:
        kind, reply = _ERROR, error.name.encode() + b"\0"
    connection.reply(Message(kind, req_id, tx_id, reply))
    if kind == _WATCH:
        # The first event follows the reply, so that the client knows the watch that it is for.
        path, token = _strings(payload, 2)
        store.watch_table.fire_first(connection, _text(path), token)


def _serve(store: Store, connection: Connection, kind: int, tx_id: int, payload: bytes) -> bytes:
    if kind in _DOM0_ONLY and not connection.privileged:
        raise StoreError(Errno.EACCES, f"request {kind} is for domain 0")
    handler = _HANDLERS.get(kind)
    if handler is None:
        raise StoreError(Errno.ENOSYS, f"no request {kind}")
    if tx_id and kind not in _WITHOUT_TRANSACTION:
        connection.transaction(tx_id)
    reply = handler(store, connection, tx_id, payload)
    if len(reply) > XENSTORE_PAYLOAD_MAX:
        raise StoreError(Errno.E2BIG, f"a reply of {len(reply)} bytes")
    return reply


# Payloads. Text is Latin-1 on the way in, so that every byte is a character that the path check can refuse.


def _text(raw: bytes) -> str:
    return raw.decode("latin-1")


def _only_string(payload: bytes) -> str:
    """A payload that is one string, its NUL included."""
    if payload.find(b"\0") != len(payload) - 1 or not payload:
        raise StoreError(Errno.EINVAL, "the payload is not one string with its NUL")
    return _text(payload[:-1])


def _all_strings(payload: bytes) -> list[bytes]:
    """Every string with a NUL; what follows the last NUL is reserved and ignored."""
    return payload.split(b"\0")[:-1]


def _strings(payload: bytes, count: int) -> list[bytes]:
    strings = _all_strings(payload)
    if len(strings) != count:
        raise StoreError(Errno.EINVAL, f"{len(strings)} strings in the payload, want {count}")
    return strings


def _number(text: str, limit: int) -> int:
    if _decimal(text) is None or int(text) > limit:
        raise StoreError(Errno.EINVAL, f"not a number up to {limit}: {text[:20]!r}")
    return int(text)


def _listing(children: tuple[str, ...]) -> bytes:
    return "".join([child + "\0" for child in children]).encode("ascii")


# Nodes


def _directory(store: Store, connection: Connection, tx_id: int, payload: bytes) -> bytes:
    return _listing(store.directory(connection, _only_string(payload), tx_id))


def _directory_part(store: Store, connection: Connection, tx_id: int, payload: bytes) -> bytes:
    path, offset = _strings(payload, 2)
    node = store.node(connection, _text(path), tx_id)
    generation = b"%d\0" % node.generation
    rest = _listing(node.children)[_number(_text(offset), 0xFFFF_FFFF) :]
    part = rest[: XENSTORE_PAYLOAD_MAX - len(generation) - 1]
    if len(part) == len(rest):
        return generation + part + b"\0"
    return generation + part[: part.rfind(b"\0") + 1]


def _read(store: Store, connection: Connection, tx_id: int, payload: bytes) -> bytes:
    return store.read(connection, _only_string(payload), tx_id)


def _write(store: Store, connection: Connection, tx_id: int, payload: bytes) -> bytes:
    path, separator, value = payload.partition(b"\0")
    if not separator:
        raise StoreError(Errno.EINVAL, "the path has no NUL")
    store.write(connection, _text(path), value, tx_id)
    return _OK


def _mkdir(store: Store, connection: Connection, tx_id: int, payload: bytes) -> bytes:
    store.mkdir(connection, _only_string(payload), tx_id)
    return _OK


def _rm(store: Store, connection: Connection, tx_id: int, payload: bytes) -> bytes:
    store.remove(connection, _only_string(payload), tx_id)
    return _OK


def _get_perms(store: Store, connection: Connection, tx_id: int, payload: bytes) -> bytes:
    perms = store.get_perms(connection, _only_string(payload), tx_id)
    return "".join([f"{perm}\0" for perm in perms]).encode("ascii")


def _set_perms(store: Store, connection: Connection, tx_id: int, payload: bytes) -> bytes:
    path, *entries = _all_strings(payload) or [b""]
    if not connection.privileged and len(entries) > connection.quota.permissions:
        raise StoreError(Errno.ENOSPC, f"a node may have {connection.quota.permissions} permission entries")
    store.set_perms(connection, _text(path), tuple([parse_perm(_text(entry)) for entry in entries]), tx_id)
    return _OK


# Watches and transactions


def _watch(store: Store, connection: Connection, _tx_id: int, payload: bytes) -> bytes:
    path, token = _strings(payload, 2)
    store.watch_table.add(connection, _text(path), token)
    return _OK


def _unwatch(store: Store, connection: Connection, _tx_id: int, payload: bytes) -> bytes:
    path, token = _strings(payload, 2)
    store.unwatch(connection, _text(path), token)
    return _OK


def _reset_watches(store: Store, connection: Connection, _tx_id: int, _payload: bytes) -> bytes:
    store.reset(connection)
    return _OK


def _transaction_start(store: Store, connection: Connection, tx_id: int, _payload: bytes) -> bytes:
    return b"%d\0" % store.begin(connection, tx_id)


def _transaction_end(store: Store, connection: Connection, tx_id: int, payload: bytes) -> bytes:
    if payload not in (b"T\0", b"F\0"):
        raise StoreError(Errno.EINVAL, "a transaction ends with T or F")
    store.end(connection, tx_id, commit=payload == b"T\0")
    return _OK


# Domains


def _get_domain_path(store: Store, _connection: Connection, _tx_id: int, payload: bytes) -> bytes:
    return store.domain_path(_number(_only_string(payload), DOMID_MAX)).encode("ascii") + b"\0"


def _is_domain_introduced(store: Store, _connection: Connection, _tx_id: int, payload: bytes) -> bytes:
    domid = _number(_only_string(payload), DOMID_MAX)
    return b"T\0" if domid == DOMID_SELF or domid in store.introduced else b"F\0"


_HANDLERS: dict[int, Handler] = {
    XsdSockmsgType.DIRECTORY: _directory,
    XsdSockmsgType.READ: _read,
    XsdSockmsgType.GET_PERMS: _get_perms,
    XsdSockmsgType.WATCH: _watch,
    XsdSockmsgType.UNWATCH: _unwatch,
    XsdSockmsgType.TRANSACTION_START: _transaction_start,
    XsdSockmsgType.TRANSACTION_END: _transaction_end,
    XsdSockmsgType.GET_DOMAIN_PATH: _get_domain_path,
    XsdSockmsgType.WRITE: _write,
    XsdSockmsgType.MKDIR: _mkdir,
    XsdSockmsgType.RM: _rm,
    XsdSockmsgType.SET_PERMS: _set_perms,
    XsdSockmsgType.IS_DOMAIN_INTRODUCED: _is_domain_introduced,
    XsdSockmsgType.RESET_WATCHES: _reset_watches,
    XsdSockmsgType.DIRECTORY_PART: _directory_part,
}

# xenstored's XS_FLAG_PRIV. Those without a handler need the daemon: rings of other domains, a target, a log.
_DOM0_ONLY = frozenset(
    {
        XsdSockmsgType.CONTROL,
        XsdSockmsgType.INTRODUCE,
        XsdSockmsgType.RELEASE,
        XsdSockmsgType.IS_DOMAIN_INTRODUCED,
        XsdSockmsgType.RESUME,
        XsdSockmsgType.SET_TARGET,
    }
)

# xenstored's XS_FLAG_NOTID.
_WITHOUT_TRANSACTION = frozenset({XsdSockmsgType.WATCH, XsdSockmsgType.UNWATCH})
