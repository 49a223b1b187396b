"""Ports of the host's that lead to a guest's."""

import errno
import socket

from xenion.config.vif import Forward
from xenion.xend.networks.place import VifPlace, cannot

_WHY = {
    errno.EADDRINUSE: "is in use: choose another one, or end who uses it",
    errno.EACCES: "may be opened by root only: choose one above 1023",
    errno.EADDRNOTAVAIL: "cannot be opened: the host has no such address",
}


def check_free(forward: Forward, place: VifPlace) -> None:
    """Whether the helper can have the port; it opens it by itself, a moment later. ApiError."""
    if (
        ":" in forward.host_address
    ):  # neither passt here nor libslirp leads from them to a guest's IPv4 address
        raise cannot(
            place, f"forwards start at IPv4 addresses, not at {forward.host_address}: use one of those"
        )
    kind = socket.SOCK_STREAM if forward.protocol == "tcp" else socket.SOCK_DGRAM
    try:
        with socket.socket(socket.AF_INET, kind) as probe:
            if kind == socket.SOCK_STREAM:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((forward.host_address, forward.host_port))
    except OSError as error:
        why = _WHY.get(error.errno or 0, f"cannot be opened: {error.strerror}")
        name = f"{forward.protocol} port {forward.host_port} of {forward.host_address}"
        raise cannot(place, f"{name} {why}") from error
