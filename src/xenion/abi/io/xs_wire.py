"""io/xs_wire.h: xenstore's wire protocol and its shared ring."""

from ctypes import Array, LittleEndianStructure, c_uint8
from enum import IntEnum
from typing import Annotated

from xenion.abi.errno import Errno
from xenion.abi.layout import U32, layout


class XsdSockmsgType(IntEnum):
    """io/xs_wire.h: ``enum xsd_sockmsg_type``, ``XS_*``."""

    CONTROL = 0
    DIRECTORY = 1
    READ = 2
    GET_PERMS = 3
    WATCH = 4
    UNWATCH = 5
    TRANSACTION_START = 6
    TRANSACTION_END = 7
    INTRODUCE = 8
    RELEASE = 9
    GET_DOMAIN_PATH = 10
    WRITE = 11
    MKDIR = 12
    RM = 13
    SET_PERMS = 14
    WATCH_EVENT = 15
    ERROR = 16
    IS_DOMAIN_INTRODUCED = 17
    RESUME = 18
    SET_TARGET = 19
    RESET_WATCHES = 21
    DIRECTORY_PART = 22
    GET_FEATURE = 23
    SET_FEATURE = 24
    GET_QUOTA = 25
    SET_QUOTA = 26
    INVALID = 0xFFFF
    DEBUG = CONTROL


XS_TYPE_COUNT = 27

# The errors that the protocol can carry, by name, in an ERROR reply.
XSD_ERRORS = (
    Errno.EINVAL,
    Errno.EACCES,
    Errno.EEXIST,
    Errno.EISDIR,
    Errno.ENOENT,
    Errno.ENOMEM,
    Errno.ENOSPC,
    Errno.EIO,
    Errno.ENOTEMPTY,
    Errno.ENOSYS,
    Errno.EROFS,
    Errno.EBUSY,
    Errno.EAGAIN,
    Errno.EISCONN,
    Errno.E2BIG,
    Errno.EPERM,
)

# Fields of a WATCH_EVENT, in order.
XS_WATCH_PATH = 0
XS_WATCH_TOKEN = 1

XENSTORE_RING_SIZE = 1024

# Limits in bytes.
XENSTORE_PAYLOAD_MAX = 4096
XENSTORE_ABS_PATH_MAX = 3072
XENSTORE_REL_PATH_MAX = 2048

XENSTORE_SERVER_FEATURE_RECONNECTION = 1
XENSTORE_SERVER_FEATURE_ERROR = 2
XENSTORE_SERVER_FEATURE_WATCHDEPTH = 4
XENSTORE_SERVER_FEATURE_DOMID_ANY = 8

XENSTORE_CONNECTED = 0
XENSTORE_RECONNECT = 1

XENSTORE_ERROR_NONE = 0
XENSTORE_ERROR_COMM = 1
XENSTORE_ERROR_RINGIDX = 2
XENSTORE_ERROR_PROTO = 3


@layout(16)
class XsdSockmsg(LittleEndianStructure):
    """io/xs_wire.h: ``struct xsd_sockmsg``; ``len`` bytes of payload follow it."""

    type: U32
    req_id: U32
    tx_id: U32
    len: U32


@layout(2076)
class XenstoreDomainInterface(LittleEndianStructure):
    """io/xs_wire.h: ``struct xenstore_domain_interface``; indexes run free."""

    req: Annotated[Array[c_uint8], c_uint8 * XENSTORE_RING_SIZE]
    rsp: Annotated[Array[c_uint8], c_uint8 * XENSTORE_RING_SIZE]
    req_cons: U32
    req_prod: U32
    rsp_cons: U32
    rsp_prod: U32
    server_features: U32
    connection: U32
    error: U32
