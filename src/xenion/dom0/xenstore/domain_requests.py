"""Requests about domains (docs/misc/xenstore.txt, "Domain management and xenstored communications")."""

from xenion.abi.errno import Errno
from xenion.abi.xen import DOMID_SELF
from xenion.dom0.xenstore.connection import Connection
from xenion.dom0.xenstore.domains import FEATURES, Domain
from xenion.dom0.xenstore.errors import StoreError
from xenion.dom0.xenstore.payload import OK, all_strings, domid, number, only_string, strings, text
from xenion.dom0.xenstore.quota import NAMES, VALUE_MAX, quota_value
from xenion.dom0.xenstore.store import Store

_U32_MAX = 0xFFFF_FFFF


def introduce(store: Store, _connection: Connection, _tx_id: int, payload: bytes) -> bytes:
    """<domid>|<gfn>|<evtchn>|?: the domain starts anew. Only xend can give the store a way to a domain.

    For another domain it is as if its ring could not be mapped: EINVAL.
    """
    found = all_strings(payload)
    if len(found) < 3 or not number(found[2], _U32_MAX):
        raise StoreError(Errno.EINVAL, "want a domain, a frame and a port")
    domain = store.domains.get(domid(found[0]))
    if domain is None:
        raise StoreError(Errno.EINVAL, f"xend has not introduced domain {text(found[0])}")
    store.reset(domain.guest)
    return OK


def release(store: Store, _connection: Connection, _tx_id: int, payload: bytes) -> bytes:
    """<domid>|"""
    store.release(_other(store, payload).domid)
    return OK


def resume(store: Store, _connection: Connection, _tx_id: int, payload: bytes) -> bytes:
    """<domid>|: its next shutdown is told again. It always is."""
    _other(store, payload)
    return OK


def get_domain_path(store: Store, _connection: Connection, _tx_id: int, payload: bytes) -> bytes:
    """<domid>|"""
    return store.domain_path(domid(only_string(payload))).encode("ascii") + b"\0"


def is_domain_introduced(store: Store, connection: Connection, _tx_id: int, payload: bytes) -> bytes:
    """<domid>|"""
    asked = domid(only_string(payload))
    return b"T\0" if asked == DOMID_SELF or asked in store.domains else b"F\0"


def set_target(store: Store, _connection: Connection, _tx_id: int, payload: bytes) -> bytes:
    """<domid>|<tdomid>|"""
    who, whom = strings(payload, 2)
    store.set_target(_known(store, who), _known(store, whom))
    return OK


def get_feature(store: Store, connection: Connection, _tx_id: int, payload: bytes) -> bytes:
    """[<domid>|]"""
    found = strings(payload, 0, 1)
    if not found or found == [b""]:
        return b"%d\0" % features_of(store, connection)
    if not connection.privileged or connection.scope is not None:
        raise StoreError(Errno.EACCES, "another domain's features are for domain 0")
    return b"%d\0" % store.features.get(domid(found[0]), FEATURES)


def set_feature(store: Store, _connection: Connection, _tx_id: int, payload: bytes) -> bytes:
    """<domid>|<value>|"""
    who, value = strings(payload, 2)
    bits = number(value, _U32_MAX)
    if domid(who) in store.domains:
        raise StoreError(Errno.EBUSY, f"domain {text(who)} is introduced")
    if bits & ~FEATURES:
        raise StoreError(Errno.EINVAL, f"features {bits:#x}, of {FEATURES:#x}")
    store.set_features(domid(who), bits)
    return OK


def get_quota(store: Store, _connection: Connection, _tx_id: int, payload: bytes) -> bytes:
    """[[<domid>|]<quota>|]"""
    found = strings(payload, 0, 2)
    if not found or found == [b""]:
        return " ".join(NAMES).encode("ascii") + b"\0"
    quota = store.quota if len(found) == 1 else _known(store, found[0]).guest.quota
    return b"%d\0" % quota_value(quota, text(found[-1]))


def set_quota(store: Store, _connection: Connection, _tx_id: int, payload: bytes) -> bytes:
    """[<domid>|]<quota>|<value>|"""
    *who, name, value = strings(payload, 2, 3)
    domain = _known(store, who[0]) if who else None
    store.set_quota(domain, text(name), number(value, VALUE_MAX))
    return OK


def features_of(store: Store, connection: Connection) -> int:
    """XENSTORE_SERVER_FEATURE_* that a client may use."""
    return FEATURES if connection.privileged else store.features.get(connection.domid, FEATURES)


def _known(store: Store, raw: bytes) -> Domain:
    domain = store.domains.get(domid(raw))
    if domain is None:
        raise StoreError(Errno.ENOENT, f"domain {text(raw)} is not introduced")
    return domain


def _other(store: Store, payload: bytes) -> Domain:
    """The one argument; domain 0 is none."""
    raw = only_string(payload)
    if domid(raw) == 0:
        raise StoreError(Errno.EINVAL, "that is domain 0 itself")
    return _known(store, raw.encode("ascii"))
