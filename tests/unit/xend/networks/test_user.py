"""The user network: passt, libslirp where it cannot run, and ports of the host's."""

import ctypes
import os
import shutil
import socket
import sys
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from tests.descriptors import descriptors
from tests.unit.xend.networks.kit import Stream, arp_answer, arp_request, place, refusal, run, tcp_syn, vif
from xenion.api.errors import ApiError
from xenion.config.vif import Forward, Vif
from xenion.xend import helpers
from xenion.xend.networks import dns, slirp, user
from xenion.xend.networks.defined import UserNetwork
from xenion.xend.networks.place import Plugged
from xenion.xend.networks.user import Lan

AUTO, PASST, SLIRP = (UserNetwork(program) for program in ("auto", "passt", "slirp"))
GUEST, GATEWAY = IPv4Address("10.0.2.15"), IPv4Address("10.0.2.2")


@pytest.mark.parametrize(
    ("given", "guest", "gateway", "dns"),
    [
        ((), "10.0.2.15", "10.0.2.2", "10.0.2.3"),
        (("fe80::1", "192.168.7.20", "10.0.0.1"), "192.168.7.20", "192.168.7.2", "192.168.7.3"),
        (("10.1.1.2",), "10.1.1.2", "10.1.1.3", "10.1.1.4"),
        (("10.1.1.3",), "10.1.1.3", "10.1.1.2", "10.1.1.4"),
    ],
)
def test_addresses(given: tuple[str, ...], guest: str, gateway: str, dns: str, tmp_path: Path) -> None:
    lan = Lan.of(vif(addresses=given), place(tmp_path))
    assert (str(lan.guest), str(lan.gateway), str(lan.dns)) == (guest, gateway, dns)
    assert lan.network == IPv4Network(f"{guest}/24", strict=False)


@pytest.mark.parametrize("given", ["10.1.1.0", "10.1.1.255"])
def test_addresses_that_are_no_host_s(given: str, tmp_path: Path) -> None:
    error = run(refusal(user.plug(vif(addresses=(given,)), place(tmp_path), AUTO)))
    assert f"ip={given} is no host's address" in error.message


def free_port(kind: int = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def forward(port: int, protocol: str = "tcp", to: int = 22) -> Forward:
    return Forward(protocol=protocol, host_address="127.0.0.1", host_port=port, guest_port=to)


def plugged(made: Vif, at: Path, chosen: UserNetwork) -> Plugged:
    """By passt, or skipped with its reason."""
    if shutil.which("passt") is None:
        pytest.skip("passt is not here: install it")
    try:
        return run(user.plug(made, place(at), chosen))  # type: ignore[no-any-return]
    except ApiError as error:
        if "user namespace" in error.message:  # in a chroot, for example
            pytest.skip(f"passt does not run here: {error.message}")
        raise


def end(made: Plugged) -> None:
    """As the domain does: it closes its end."""
    made.close()
    (helper,) = made.helpers
    run(helper.ended())


def test_passt(tmp_path: Path) -> None:
    tcp, udp = free_port(), free_port(socket.SOCK_DGRAM)
    wanted = vif(forwards=(forward(tcp), forward(udp, "udp", 53)))
    made = plugged(wanted, tmp_path, PASST)
    assert made.description["peer"] == "passt"
    assert made.description["wire"] == {
        "kind": "stream",
        "big": True,
        "acknowledge_syn_ack": True,
    }
    assert made.notes == []
    forwarded(made, tcp, udp)
    error = run(refusal(user.plug(wanted, place(tmp_path, 1), AUTO)))
    assert f"interface 1 of web: tcp port {tcp} of 127.0.0.1 is in use" in error.message
    end(made)
    made = plugged(wanted, tmp_path, AUTO)
    end(made)


def forwarded(made: Plugged, tcp: int, udp: int) -> None:
    with Stream(made.fds[0]) as guest:
        guest.answers(GUEST, GATEWAY)
        with socket.create_connection(("127.0.0.1", tcp)):
            assert destination(guest, protocol=6) == (GUEST, 22)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.sendto(b"question", ("127.0.0.1", udp))
            assert destination(guest, protocol=17) == (GUEST, 53)


def destination(guest: Stream, protocol: int) -> tuple[IPv4Address, int]:
    """Where the next packet of this IP protocol goes."""
    while True:
        frame = guest.receive()
        if frame[12:14] == b"\x08\0" and frame[23] == protocol:
            header = (frame[14] & 15) * 4
            return IPv4Address(frame[30:34]), int.from_bytes(frame[14 + header + 2 : 14 + header + 4], "big")


def test_an_address_of_one_s_own(tmp_path: Path) -> None:
    made = plugged(vif(addresses=("192.168.7.20",)), tmp_path, AUTO)
    with Stream(made.fds[0]) as guest:
        guest.answers(IPv4Address("192.168.7.20"), IPv4Address("192.168.7.2"))
    end(made)


def broken_passt(at: Path, monkeypatch: pytest.MonkeyPatch, says: str) -> None:
    program = at / "bin" / "passt"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho 'Template interface: eth0' >&2; {says}; exit 1\n")
    program.chmod(0o700)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


def test_passt_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken_passt(tmp_path, monkeypatch, "echo 'No external interface' >&2")
    before = descriptors()
    where = place(tmp_path)
    error = run(refusal(user.plug(vif(), where, PASST)))
    assert error.message == "interface 0 of web: passt cannot be used: No external interface"
    os.close(where.said)
    assert descriptors() == before


def test_no_passt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(helpers, "installed", lambda _: False)
    error = run(refusal(user.plug(vif(), place(tmp_path), PASST)))
    assert "passt is not installed: apt-get install passt" in error.message


def need_libslirp() -> None:
    try:
        ctypes.CDLL("libslirp.so.0")
    except OSError as error:
        pytest.skip(f"libslirp0 is not here: {error}")


def test_slirp(tmp_path: Path) -> None:
    need_libslirp()
    tcp, udp = free_port(), free_port(socket.SOCK_DGRAM)
    wanted = vif(forwards=(forward(tcp), forward(udp, "udp", 53)))
    made = run(user.plug(wanted, place(tmp_path), SLIRP))
    assert made.description["peer"] == "slirp"
    assert made.description["wire"]["acknowledge_syn_ack"] is False
    assert made.notes == []
    forwarded(made, tcp, udp)
    end(made)


def test_slirp_where_passt_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need_libslirp()
    broken_passt(tmp_path, monkeypatch, "echo 'No external interface' >&2")
    made = run(user.plug(vif(), place(tmp_path), AUTO))
    assert made.notes == ["interface 0 uses libslirp, which is slower than passt: No external interface"]
    end(made)


def test_slirp_where_names_are_known_on_the_loopback_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_libslirp()
    monkeypatch.setattr(dns, "only_on_loopback", lambda: True)
    made = run(user.plug(vif(), place(tmp_path), AUTO))
    assert made.description["peer"] == "slirp"
    assert "name server listens on its loopback only" in made.notes[0]
    end(made)


def test_neither(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken_passt(tmp_path, monkeypatch, "true")
    code = "import sys; print('user-mode networking: no library', file=sys.stderr)"
    monkeypatch.setattr(slirp, "PROGRAM", (sys.executable, "-ISc", code))
    before = descriptors()
    where = place(tmp_path)
    error = run(refusal(user.plug(vif(), where, AUTO)))
    assert error.message.startswith("interface 0 of web: libslirp does not start: no library; ")
    assert "passt: Template interface" in error.message
    os.close(where.said)
    assert descriptors() == before


@pytest.mark.parametrize("program", ["passt", "slirp"])
@pytest.mark.parametrize("allowed", [False, True])
def test_the_host_s_loopback(tmp_path: Path, program: str, allowed: bool) -> None:
    """What listens there is the guest's only if xend.toml says so; it stands in the helper's command line."""
    if program == "slirp":
        need_libslirp()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(30)
        made = plugged(vif(), tmp_path, UserNetwork(program, allowed))
        with Stream(made.fds[0]) as guest:
            guest.answers(GUEST, GATEWAY)
            guest.send(tcp_syn(GUEST, GATEWAY, server.getsockname()[1]))
            if allowed:
                server.accept()[0].close()
            else:
                flags = answer_flags(guest)
                assert flags is None or flags & 0x12 != 0x12, "no SYN and ACK"
                server.setblocking(False)
                with pytest.raises(BlockingIOError):
                    server.accept()
        end(made)


def answer_flags(guest: Stream) -> int | None:
    """Of the next TCP segment that comes before the answer to a question that is asked later."""
    guest.send(arp_request(GUEST, GATEWAY))
    while arp_answer(frame := guest.receive()) != GATEWAY:
        if frame[12:14] == b"\x08\0" and frame[23] == 6:
            return frame[14 + (frame[14] & 15) * 4 + 13]
    return None
