"""TAP devices (linux/if_tun.h), whose other end is a vif's back end: they are there as long as it holds them open."""

import errno
import fcntl
import os
import struct

DEVICE = "/dev/net/tun"
HEADER_BYTES = 12
"""struct virtio_net_hdr_mrg_rxbuf before each frame, as xenion.dom0.net expects it."""
_TUNSETIFF, _TUNSETOFFLOAD, _TUNSETVNETHDRSZ = 0x400454CA, 0x400454D0, 0x400454D8
_TAP, _NO_PI, _VNET_HEADER, _EXCLUSIVE = 0x0002, 0x1000, 0x4000, 0x8000
_CHECKSUM, _TSO4, _TSO6 = 0x01, 0x02, 0x04
_IFREQ = "16sH22x"


def open_tap(name: str) -> int:
    """The caller's descriptor of a new device, which is down. FileExistsError: there is one of the name; OSError."""
    fd = os.open(DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        flags = _TAP | _NO_PI | _VNET_HEADER | _EXCLUSIVE
        fcntl.ioctl(fd, _TUNSETIFF, struct.pack(_IFREQ, name.encode(), flags))
        fcntl.ioctl(fd, _TUNSETVNETHDRSZ, struct.pack("i", HEADER_BYTES))
        fcntl.ioctl(fd, _TUNSETOFFLOAD, _CHECKSUM | _TSO4 | _TSO6)
    except OSError as error:
        os.close(fd)
        if error.errno in (errno.EBUSY, errno.EINVAL, errno.EEXIST):
            raise FileExistsError(errno.EEXIST, "it exists already", name) from error
        raise
    return fd
