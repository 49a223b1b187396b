"""Ports of the host's: what keeps a forward from being made is said before anything is started."""

import os
import socket
from pathlib import Path

import pytest

from tests.unit.xend.networks.kit import give_rights_up, in_namespace, place
from xenion.api.errors import ApiError
from xenion.config.vif import Forward
from xenion.xend.networks.forwards import check_free


def forward(address: str, port: int, protocol: str = "tcp") -> Forward:
    return Forward(protocol=protocol, host_address=address, host_port=port, guest_port=1)


def test_ipv6(tmp_path: Path) -> None:
    with pytest.raises(ApiError, match="forwards start at IPv4 addresses, not at ::1"):
        check_free(forward("::1", 7777), place(tmp_path))


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_in_use(tmp_path: Path, kind: socket.SocketKind) -> None:
    where, protocol = place(tmp_path), "tcp" if kind == socket.SOCK_STREAM else "udp"
    with socket.socket(socket.AF_INET, kind) as user:
        user.bind(("127.0.0.1", 0))
        if protocol == "tcp":
            user.listen()
        port = user.getsockname()[1]
        for address in ("127.0.0.1", "0.0.0.0"):
            with pytest.raises(ApiError, match=f"{protocol} port {port} of {address} is in use: choose"):
                check_free(forward(address, port, protocol), where)
    check_free(forward("127.0.0.1", port, protocol), where)


def test_no_such_address(tmp_path: Path) -> None:
    with pytest.raises(ApiError, match="the host has no such address"):
        check_free(forward("192.0.2.77", 7777), place(tmp_path))


def test_for_root_only(tmp_path: Path) -> None:
    where = place(tmp_path)

    def inside() -> None:
        Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").write_text("1024")
        give_rights_up()
        with pytest.raises(ApiError, match="may be opened by root only"):
            check_free(forward("0.0.0.0", 80), where)
        os.close(where.said)

    in_namespace(inside)
