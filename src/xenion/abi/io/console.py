"""io/console.h: the console ring."""

from ctypes import Array, LittleEndianStructure, c_uint8
from typing import Annotated

from xenion.abi.layout import U32, layout

XENCONS_IN_SIZE = 1024
XENCONS_OUT_SIZE = 2048


@layout(3088)
class XenconsInterface(LittleEndianStructure):
    """io/console.h: ``struct xencons_interface``; ``in_`` is Xen's ``in``; indexes run free."""

    in_: Annotated[Array[c_uint8], c_uint8 * XENCONS_IN_SIZE]
    out: Annotated[Array[c_uint8], c_uint8 * XENCONS_OUT_SIZE]
    in_cons: U32
    in_prod: U32
    out_cons: U32
    out_prod: U32
