"""NBD's negotiation, with QEMU's server and with ones that a test plays."""

import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.dom0.block.nbd_server import Qemu
from xenion.dom0.block.nbd_handshake import (
    FLAG_CAN_MULTI_CONN,
    FLAG_HAS_FLAGS,
    FLAG_READ_ONLY,
    IHAVEOPT,
    NBD_MAGIC,
    OLD_STYLE,
    OPT_EXPORT_NAME,
    OPT_GO,
    REP_ACK,
    REP_ERR_POLICY,
    REP_ERR_TLS_REQD,
    REP_ERR_UNKNOWN,
    REP_ERR_UNSUP,
    REP_INFO,
    NbdError,
    NbdInfo,
    negotiate,
)

GREETING = NBD_MAGIC + IHAVEOPT + struct.pack(">H", 3)
EXPORT = struct.pack(">HQH", 0, 1 << 20, FLAG_HAS_FLAGS)


def reply(kind: int, data: bytes = b"", option: int = OPT_GO) -> bytes:
    return struct.pack(">QIII", 0x3E889045565A9, option, kind, len(data)) + data


def against(*parts: bytes, name: str = "disk", timeout_s: float = 60) -> NbdInfo:
    """Negotiates with a server that says just this, whatever it hears, and hangs up."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"".join(parts))
        theirs.shutdown(socket.SHUT_WR)
        return negotiate(ours, name, timeout_s=timeout_s)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image"
    path.write_bytes(bytes(1 << 20))
    return path


@pytest.fixture
def qemu(tmp_path: Path) -> Iterator[Callable[..., Qemu]]:
    started: list[Qemu] = []

    def start(*arguments: object) -> Qemu:
        started.append(Qemu(tmp_path, *arguments))  # type: ignore[arg-type]
        return started[-1]

    yield start
    for server in started:
        server.kill()


def test_qemu(qemu: Callable[..., Qemu], image: Path) -> None:
    server = qemu(image, "-f", "raw")
    with server.socket() as sock:
        info = negotiate(sock, "disk")
        assert sock.gettimeout() is None
    assert info.size == 1 << 20
    assert not info.read_only
    assert info.min_block <= 512
    assert NbdInfo(**json.loads(json.dumps(asdict(info)))) == info
    with server.socket() as sock, pytest.raises(NbdError, match='no export "other"'):
        negotiate(sock, "other")


def test_qemu_read_only(qemu: Callable[..., Qemu], image: Path) -> None:
    with qemu(image, "-f", "raw", "-r").socket() as sock:
        info = negotiate(sock, "disk")
    assert info.read_only
    assert info.multi_conn


def test_block_sizes_and_flags() -> None:
    blocks = struct.pack(">HIII", 3, 4096, 65536, 1 << 21)
    flags = FLAG_HAS_FLAGS | FLAG_READ_ONLY | FLAG_CAN_MULTI_CONN
    info = against(
        GREETING,
        reply(REP_INFO, struct.pack(">H", 77) + b"unknown"),
        reply(REP_INFO, blocks),
        reply(REP_INFO, struct.pack(">HQH", 0, 5000, flags)),
        reply(REP_ACK),
    )
    assert info == NbdInfo(size=5000, flags=flags, min_block=4096, preferred_block=65536, max_block=1 << 21)


def test_what_is_asked() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(GREETING + reply(REP_INFO, EXPORT) + reply(REP_ACK))
        negotiate(ours, "name")
        ours.close()
        heard = theirs.makefile("rb").read()
    assert heard == (
        struct.pack(">I", 3)
        + IHAVEOPT
        + struct.pack(">III", OPT_GO, 12, 4)
        + b"name"
        + struct.pack(">HH", 1, 3)
    )


@pytest.mark.parametrize("no_zeroes", [True, False])
def test_servers_that_know_no_go(no_zeroes: bool) -> None:
    greeting = NBD_MAGIC + IHAVEOPT + struct.pack(">H", 3 if no_zeroes else 1)
    export = struct.pack(">QH", 4096, FLAG_HAS_FLAGS) + (b"" if no_zeroes else bytes(124))
    assert against(greeting, reply(REP_ERR_UNSUP), export).size == 4096
    with pytest.raises(NbdError, match='no export "disk"'):
        against(greeting, reply(REP_ERR_UNSUP))
    assert OPT_EXPORT_NAME == 1


REFUSALS = {
    "old": ([NBD_MAGIC + OLD_STYLE], "old style"),
    "ssh": ([b"SSH-2.0-OpenSSH_9.2p1"], "no NBD server"),
    "not fixed": ([NBD_MAGIC + IHAVEOPT + b"\0\0"], "fixed newstyle"),
    "hung up": ([GREETING[:9]], "hung up"),
    "unknown": ([GREETING, reply(REP_ERR_UNKNOWN)], "no export"),
    "tls": ([GREETING, reply(REP_ERR_TLS_REQD)], "TLS"),
    "policy": ([GREETING, reply(REP_ERR_POLICY)], "does not let us"),
    "other": ([GREETING, reply((1 << 31) + 99, b"be\x1b[31mcause")], r"0x80000063\) be\[31mcause"),
    "no size": ([GREETING, reply(REP_ACK)], "how large"),
    "chatter": ([GREETING, *[reply(REP_INFO, EXPORT)] * 100], "more of its export"),
    "magic": ([GREETING, b"\0" * 20], "protocol does not allow"),
    "other option": ([GREETING, reply(REP_ACK, option=9)], "protocol does not allow"),
    "endless": (
        [GREETING, struct.pack(">QIII", 0x3E889045565A9, OPT_GO, REP_INFO, 1 << 31)],
        "does not allow",
    ),
    "short info": ([GREETING, reply(REP_INFO, b"\0\0\0")], "does not allow"),
    "empty info": ([GREETING, reply(REP_INFO)], "does not allow"),
    "no flags": (
        [GREETING, reply(REP_INFO, struct.pack(">HQH", 0, 1, 0)), reply(REP_ACK)],
        "describes its export",
    ),
    "huge": (
        [GREETING, reply(REP_INFO, struct.pack(">HQH", 0, 1 << 63, 1)), reply(REP_ACK)],
        "describes its export",
    ),
    "odd blocks": (
        [
            GREETING,
            reply(REP_INFO, EXPORT),
            reply(REP_INFO, struct.pack(">HIII", 3, 3, 4096, 1 << 20)),
            reply(REP_ACK),
        ],
        "blocks of 3",
    ),
    "no blocks": (
        [
            GREETING,
            reply(REP_INFO, EXPORT),
            reply(REP_INFO, struct.pack(">HIII", 3, 1, 1, 0)),
            reply(REP_ACK),
        ],
        "to 0 bytes",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals(name: str) -> None:
    said, why = REFUSALS[name]
    with pytest.raises(NbdError, match=why) as refused:
        against(*said)
    assert str(refused.value).isprintable()


def test_a_long_name() -> None:
    with pytest.raises(NbdError, match="longer than 4096"):
        against(GREETING, name="x" * 4097)


def test_a_server_that_does_not_answer() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(NbdError, match=r"does not answer within 0\.05 seconds"):
        negotiate(ours, "disk", timeout_s=0.05)


def test_a_server_that_drips() -> None:
    """The deadline is for all of it, not for each byte."""
    ours, theirs = socket.socketpair()
    over = threading.Event()

    def drip() -> None:
        for byte in GREETING * 100:
            if over.wait(0.01):
                break
            theirs.send(bytes([byte]))

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        with pytest.raises(NbdError, match="does not answer within"):
            negotiate(ours, "disk", timeout_s=0.1)
    finally:
        over.set()
        thread.join()
        ours.close()
        theirs.close()


PART = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([GREETING, reply(REP_ACK), reply(REP_INFO, EXPORT), reply(REP_ERR_UNSUP)]),
    st.tuples(st.integers(0, (1 << 32) - 1), st.binary(max_size=30)).map(lambda t: reply(*t)),
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(PART, max_size=8), st.booleans())
def test_anything_is_an_error_in_a_sentence_or_an_export(parts: list[bytes], greet: bool) -> None:
    try:
        info = against(*([GREETING] if greet else []), *parts)
    except NbdError as error:
        said = str(error)
    else:
        said = ""
        assert 0 <= info.size < 1 << 63
    assert said.isprintable()
