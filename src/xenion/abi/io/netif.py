"""io/netif.h: network devices: transmit and receive rings, and extra information between their slots."""

from ctypes import Array, LittleEndianStructure, LittleEndianUnion, c_uint8, c_uint16
from typing import Annotated

from xenion.abi.layout import S16, U8, U16, U32, layout

XEN_NETIF_NR_SLOTS_MIN = 18
XEN_NETIF_MAX_TX_SIZE = 0xFFFF

NETTXF_csum_blank = 1 << 0
NETTXF_data_validated = 1 << 1
NETTXF_more_data = 1 << 2
NETTXF_extra_info = 1 << 3

NETRXF_data_validated = 1 << 0
NETRXF_csum_blank = 1 << 1
NETRXF_more_data = 1 << 2
NETRXF_extra_info = 1 << 3
NETRXF_gso_prefix = 1 << 4

XEN_NETIF_EXTRA_TYPE_NONE = 0
XEN_NETIF_EXTRA_TYPE_GSO = 1
XEN_NETIF_EXTRA_TYPE_MCAST_ADD = 2
XEN_NETIF_EXTRA_TYPE_MCAST_DEL = 3
XEN_NETIF_EXTRA_TYPE_HASH = 4
XEN_NETIF_EXTRA_TYPE_XDP = 5
XEN_NETIF_EXTRA_TYPE_MAX = 6

XEN_NETIF_EXTRA_FLAG_MORE = 1 << 0

XEN_NETIF_GSO_TYPE_NONE = 0
XEN_NETIF_GSO_TYPE_TCPV4 = 1
XEN_NETIF_GSO_TYPE_TCPV6 = 2

NETIF_RSP_DROPPED = -2
NETIF_RSP_ERROR = -1
NETIF_RSP_OKAY = 0
NETIF_RSP_NULL = 1


@layout(12)
class NetifTxRequest(LittleEndianStructure):
    """io/netif.h: ``struct netif_tx_request``; ``flags``: NETTXF_*; a chain's first ``size`` is the whole packet's."""

    gref: U32
    offset: U16
    flags: U16
    id: U16
    size: U16


@layout(6)
class NetifExtraInfoGso(LittleEndianStructure):
    """io/netif.h: ``netif_extra_info.u.gso``; ``size`` is the payload of a segment."""

    size: U16
    type: U8
    pad: U8
    features: U16


@layout(6)
class NetifExtraInfoMcast(LittleEndianStructure):
    """io/netif.h: ``netif_extra_info.u.mcast``."""

    addr: Annotated[Array[c_uint8], c_uint8 * 6]


@layout(6)
class NetifExtraInfoHash(LittleEndianStructure):
    """io/netif.h: ``netif_extra_info.u.hash``."""

    type: U8
    algorithm: U8
    value: Annotated[Array[c_uint8], c_uint8 * 4]


@layout(4)
class NetifExtraInfoXdp(LittleEndianStructure):
    """io/netif.h: ``netif_extra_info.u.xdp``."""

    headroom: U16
    pad: Annotated[Array[c_uint16], c_uint16 * 1]


@layout(6)
class NetifExtraInfoU(LittleEndianUnion):
    """io/netif.h: ``netif_extra_info.u``."""

    gso: NetifExtraInfoGso
    mcast: NetifExtraInfoMcast
    hash: NetifExtraInfoHash
    xdp: NetifExtraInfoXdp
    pad: Annotated[Array[c_uint16], c_uint16 * 3]


@layout(8)
class NetifExtraInfo(LittleEndianStructure):
    """io/netif.h: ``struct netif_extra_info``, in a slot of either ring; ``type`` and ``flags``: XEN_NETIF_EXTRA_*."""

    type: U8
    flags: U8
    u: NetifExtraInfoU


@layout(4)
class NetifTxResponse(LittleEndianStructure):
    """io/netif.h: ``struct netif_tx_response``; ``status`` is NETIF_RSP_*, NULL for an extra info's slot."""

    id: U16
    status: S16


@layout(8)
class NetifRxRequest(LittleEndianStructure):
    """io/netif.h: ``struct netif_rx_request``."""

    id: U16
    pad: U16
    gref: U32


@layout(8)
class NetifRxResponse(LittleEndianStructure):
    """io/netif.h: ``struct netif_rx_response``; ``status``: bytes in this slot, or a negative error."""

    id: U16
    offset: U16
    flags: U16
    status: S16
