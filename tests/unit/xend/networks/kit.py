"""Network namespaces of a test's own, interfaces, and frames as a guest sends them."""

import asyncio
import ctypes
import os
import socket
import struct
import traceback
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from xenion.api.errors import ApiError
from xenion.config.vif import Attachment, Vif
from xenion.xend.networks.place import VifPlace

MAC = "00:16:3e:00:00:01"
_CLONE_NEWNET, _CLONE_NEWUSER = 0x40000000, 0x10000000
_SKIPPED = 77
PATIENCE_S = 60


def run(work: Awaitable[Any]) -> Any:
    async def limited() -> Any:
        return await asyncio.wait_for(work, PATIENCE_S)

    return asyncio.run(limited())


def in_namespace(work: Callable[[], None]) -> None:
    """`work` in a child that has network devices of its own, and as root there; its failure is the caller's."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        status = 1
        try:
            os.close(read)
            status = _in_child(work, write)
        finally:
            os._exit(status)
    os.close(write)
    with os.fdopen(read) as told:
        said = told.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status == _SKIPPED:
        pytest.skip(said)
    assert status == 0, said


def _in_child(work: Callable[[], None], write: int) -> int:
    try:
        _unshare()
        work()
    except pytest.skip.Exception as skipped:
        os.write(write, str(skipped).encode())
        return _SKIPPED
    except BaseException:  # noqa: BLE001  its parent raises it
        os.write(write, traceback.format_exc().encode())
        return 1
    return 0


def _unshare() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.geteuid(), os.getegid()
    if libc.unshare(_CLONE_NEWNET if user == 0 else _CLONE_NEWNET | _CLONE_NEWUSER):
        pytest.skip(f"this host gives no network namespace: {os.strerror(ctypes.get_errno())}")
    if user:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")


def give_rights_up() -> None:
    """No capability is left, whoever one is (capset(2), _LINUX_CAPABILITY_VERSION_3)."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, none = struct.pack("Ii", 0x20080522, 0), bytes(24)
    if libc.capset(header, none):
        raise OSError(ctypes.get_errno(), "capset")


def need_tun() -> None:
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        pytest.skip(f"/dev/net/tun: {error.strerror}")


async def refusal(work: Awaitable[Any]) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await work
    assert "\n" not in caught.value.message
    return caught.value


def vif(attachment: Attachment = Attachment.USER, network: str = "", **more: Any) -> Vif:
    return Vif(**{"mac": MAC, "attachment": attachment, "network": network, **more})


def place(at: Path, devid: int = 0, domid: int = 5) -> VifPlace:
    said = os.open(at / "process.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    return VifPlace(name="web", domid=domid, devid=devid, run=at, said=said)


# --- frames


def arp_request(who: IPv4Address, asks_for: IPv4Address) -> bytes:
    mac = bytes.fromhex(MAC.replace(":", ""))
    head = b"\xff" * 6 + mac + b"\x08\x06"
    return head + struct.pack(
        ">HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 1, mac, who.packed, bytes(6), asks_for.packed
    )


def arp_answer(frame: bytes) -> IPv4Address | None:
    """Who answers, if this is an answer to MAC."""
    if frame[12:14] != b"\x08\x06" or frame[20:22] != b"\0\2" or frame[:6].hex(":") != MAC:
        return None
    return IPv4Address(frame[28:32])


def ip_frame(protocol: int, source: IPv4Address, target: IPv4Address, payload: bytes) -> bytes:
    """To everybody's MAC address; header and TCP or UDP checksums are right."""
    pseudo = source.packed + target.packed + struct.pack(">HH", protocol, len(payload))
    at = {6: 16, 17: 6}[protocol]
    payload = payload[:at] + _checksum(pseudo + payload) + payload[at + 2 :]
    head = (
        struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), 1, 0, 64, protocol, 0)
        + source.packed
        + target.packed
    )
    head = head[:10] + _checksum(head) + head[12:]
    return b"\xff" * 6 + bytes.fromhex(MAC.replace(":", "")) + b"\x08\0" + head + payload


def tcp_syn(source: IPv4Address, target: IPv4Address, port: int) -> bytes:
    return ip_frame(6, source, target, struct.pack(">HHIIBBHHH", 40000, port, 1, 0, 5 << 4, 2, 65535, 0, 0))


def udp(source: IPv4Address, target: IPv4Address, ports: tuple[int, int], data: bytes) -> bytes:
    return ip_frame(17, source, target, struct.pack(">HHHH", *ports, 8 + len(data), 0) + data)


def _checksum(data: bytes) -> bytes:
    """RFC 1071's, as it stands in a packet."""
    words: tuple[int, ...] = struct.unpack(f">{(len(data) + 1) // 2}H", data + bytes(len(data) % 2))
    total = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return (total ^ 0xFFFF).to_bytes(2, "big")


class Stream:
    """The guest's end of a stream of frames."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=os.dup(fd))
        self._socket.settimeout(PATIENCE_S)

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, frame: bytes) -> None:
        self._socket.sendall(len(frame).to_bytes(4, "big") + frame)

    def receive(self) -> bytes:
        return self._exactly(int.from_bytes(self._exactly(4), "big"))

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = self._socket.recv(count - len(data))
            assert more, "the other side has hung up"
            data += more
        return data

    def answers(self, who: IPv4Address, asks_for: IPv4Address) -> None:
        """Returns when somebody says that he has this address."""
        self.send(arp_request(who, asks_for))
        while arp_answer(self.receive()) != asks_for:
            pass
