"""What each request of the wire protocol does (docs/misc/xenstore.txt): decode, act on the store, encode.

A declaration: request type, handler. A type without a handler answers ENOSYS.
"""

from collections.abc import Callable

from xenion.abi.errno import Errno
from xenion.abi.io.xs_wire import XENSTORE_PAYLOAD_MAX, XENSTORE_SERVER_FEATURE_WATCHDEPTH, XsdSockmsgType
from xenion.dom0.xenstore import commands, domain_requests
from xenion.dom0.xenstore.connection import ANY_DEPTH, Connection
from xenion.dom0.xenstore.domain_requests import features_of
from xenion.dom0.xenstore.errors import StoreError
from xenion.dom0.xenstore.payload import OK, all_strings, number, only_string, strings, text
from xenion.dom0.xenstore.perms import parse_perm
from xenion.dom0.xenstore.store import Store
from xenion.dom0.xenstore.wire import Message

Handler = Callable[[Store, Connection, int, bytes], bytes]
"""Takes store, client, transaction id and payload; returns the reply's payload or raises StoreError."""

_ERROR = int(XsdSockmsgType.ERROR)
_WATCH = int(XsdSockmsgType.WATCH)


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
        path, token = strings(payload, 2, 3)[:2]
        store.watch_table.fire_first(connection, text(path), token)


def _serve(store: Store, connection: Connection, kind: int, tx_id: int, payload: bytes) -> bytes:
    handler = _HANDLERS.get(kind)
    if handler is None:
        raise StoreError(Errno.ENOSYS, f"no request {kind}")
    if kind in _DOM0_ONLY and (
        not connection.privileged or (connection.scope is not None and kind not in _PROCESS_TOO)
    ):
        raise StoreError(Errno.EACCES, f"request {kind} is for domain 0")
    if tx_id and kind not in _WITHOUT_TRANSACTION:
        connection.transaction(tx_id)
    reply = handler(store, connection, tx_id, payload)
    if len(reply) > XENSTORE_PAYLOAD_MAX:
        raise StoreError(Errno.E2BIG, f"a reply of {len(reply)} bytes")
    return reply


# Nodes


def _directory(store: Store, connection: Connection, tx_id: int, payload: bytes) -> bytes:
    children = store.node(connection, only_string(payload), tx_id).children
    if children.size > XENSTORE_PAYLOAD_MAX:
        raise StoreError(Errno.E2BIG, f"a list of {children.size} bytes")
    return children.listing()


def _directory_part(store: Store, connection: Connection, tx_id: int, payload: bytes) -> bytes:
    path, offset = strings(payload, 2)
    node = store.node(connection, text(path), tx_id)
    generation = b"%d\0" % node.generation
    start = number(offset, 0xFFFF_FFFF)
    end = start + XENSTORE_PAYLOAD_MAX - len(generation) - 1
    part = node.children.listing()[start:end]
    if end >= node.children.size:
        return generation + part + b"\0"
    return generation + part[: part.rfind(b"\0") + 1]


def _read(store: Store, connection: Connection, tx_id: int, payload: bytes) -> bytes:
    return store.node(connection, only_string(payload), tx_id).value


def _write(store: Store, connection: Connection, tx_id: int, payload: bytes) -> bytes:
    path, separator, value = payload.partition(b"\0")
    if not separator:
        raise StoreError(Errno.EINVAL, "the path has no NUL")
    store.write(connection, path.decode("latin-1"), value, tx_id)
    return OK


def _mkdir(store: Store, connection: Connection, tx_id: int, payload: bytes) -> bytes:
    store.mkdir(connection, only_string(payload), tx_id)
    return OK


def _rm(store: Store, connection: Connection, tx_id: int, payload: bytes) -> bytes:
    store.remove(connection, only_string(payload), tx_id)
    return OK


def _get_perms(store: Store, connection: Connection, tx_id: int, payload: bytes) -> bytes:
    perms = store.get_perms(connection, only_string(payload), tx_id)
    return "".join([f"{perm}\0" for perm in perms]).encode("ascii")


def _set_perms(store: Store, connection: Connection, tx_id: int, payload: bytes) -> bytes:
    path, *entries = all_strings(payload) or [b""]
    if connection.limited and len(entries) > connection.quota.node_permissions:
        raise StoreError(
            Errno.ENOSPC, f"a node may have {connection.quota.node_permissions} permission entries"
        )
    store.set_perms(connection, text(path), tuple([parse_perm(text(entry)) for entry in entries]), tx_id)
    return OK


# Watches and transactions


def _watch(store: Store, connection: Connection, _tx_id: int, payload: bytes) -> bytes:
    most = 3 if features_of(store, connection) & XENSTORE_SERVER_FEATURE_WATCHDEPTH else 2
    path, token, *depth = strings(payload, 2, most)
    levels = min(number(depth[0], 0xFFFF_FFFF), ANY_DEPTH - 1) if depth else ANY_DEPTH
    store.watch_table.add(connection, text(path), token, levels)
    return OK


def _unwatch(store: Store, connection: Connection, _tx_id: int, payload: bytes) -> bytes:
    path, token = strings(payload, 2)
    store.unwatch(connection, text(path), token)
    return OK


def _reset_watches(store: Store, connection: Connection, _tx_id: int, _payload: bytes) -> bytes:
    store.reset(connection)
    return OK


def _transaction_start(store: Store, connection: Connection, tx_id: int, _payload: bytes) -> bytes:
    return b"%d\0" % store.begin(connection, tx_id)


def _transaction_end(store: Store, connection: Connection, tx_id: int, payload: bytes) -> bytes:
    if payload not in (b"T\0", b"F\0"):
        raise StoreError(Errno.EINVAL, "a transaction ends with T or F")
    store.end(connection, tx_id, commit=payload == b"T\0")
    return OK


_HANDLERS: dict[int, Handler] = {
    XsdSockmsgType.CONTROL: commands.control,
    XsdSockmsgType.DIRECTORY: _directory,
    XsdSockmsgType.READ: _read,
    XsdSockmsgType.GET_PERMS: _get_perms,
    XsdSockmsgType.WATCH: _watch,
    XsdSockmsgType.UNWATCH: _unwatch,
    XsdSockmsgType.TRANSACTION_START: _transaction_start,
    XsdSockmsgType.TRANSACTION_END: _transaction_end,
    XsdSockmsgType.INTRODUCE: domain_requests.introduce,
    XsdSockmsgType.RELEASE: domain_requests.release,
    XsdSockmsgType.GET_DOMAIN_PATH: domain_requests.get_domain_path,
    XsdSockmsgType.WRITE: _write,
    XsdSockmsgType.MKDIR: _mkdir,
    XsdSockmsgType.RM: _rm,
    XsdSockmsgType.SET_PERMS: _set_perms,
    XsdSockmsgType.IS_DOMAIN_INTRODUCED: domain_requests.is_domain_introduced,
    XsdSockmsgType.RESUME: domain_requests.resume,
    XsdSockmsgType.SET_TARGET: domain_requests.set_target,
    XsdSockmsgType.RESET_WATCHES: _reset_watches,
    XsdSockmsgType.DIRECTORY_PART: _directory_part,
    XsdSockmsgType.GET_FEATURE: domain_requests.get_feature,
    XsdSockmsgType.SET_FEATURE: domain_requests.set_feature,
    XsdSockmsgType.GET_QUOTA: domain_requests.get_quota,
    XsdSockmsgType.SET_QUOTA: domain_requests.set_quota,
}

# xenstored's XS_FLAG_PRIV.
_DOM0_ONLY = frozenset(
    {
        XsdSockmsgType.CONTROL,
        XsdSockmsgType.INTRODUCE,
        XsdSockmsgType.RELEASE,
        XsdSockmsgType.IS_DOMAIN_INTRODUCED,
        XsdSockmsgType.RESUME,
        XsdSockmsgType.SET_TARGET,
        XsdSockmsgType.SET_FEATURE,
        XsdSockmsgType.GET_QUOTA,
        XsdSockmsgType.SET_QUOTA,
    }
)

# Of these, what a domain's own process may ask as well.
_PROCESS_TOO = frozenset({XsdSockmsgType.IS_DOMAIN_INTRODUCED})

# xenstored's XS_FLAG_NOTID.
_WITHOUT_TRANSACTION = frozenset({XsdSockmsgType.WATCH, XsdSockmsgType.UNWATCH})
