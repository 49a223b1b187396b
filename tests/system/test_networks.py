"""Interfaces as a stock Debian sees them: guests, the host and other guests reach each other, and nothing else."""

import hashlib
import json
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.system.disk_guest import DebianGuest, free_port
from tests.system.host_net import host_address, packets, sink
from tests.system.images_on_host import MIB, tool

if TYPE_CHECKING:
    from tests.system.disk_guest import Image

SEND = """\
import hashlib, os, socket, sys
data = os.urandom(65536)
made, digest = socket.create_connection((sys.argv[1], int(sys.argv[2])), 60), hashlib.sha256()
for _ in range(int(sys.argv[3])):
    made.sendall(data)
    digest.update(data)
made.close()
print(digest.hexdigest())
"""
SERVE = """\
import hashlib, socket, sys
server = socket.create_server(("0.0.0.0", int(sys.argv[1])))
print("serving", flush=True)
client, _ = server.accept()
if sys.argv[2:]:
    client.sendall(sys.argv[2].encode())
digest = hashlib.sha256()
while data := client.recv(65536):
    digest.update(data)
print(digest.hexdigest(), flush=True)
"""
ECHO = """\
import socket
made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
made.bind(("0.0.0.0", 7))
while True:
    data, peer = made.recvfrom(65536)
    made.sendto(data, peer)
"""
FLOOD = """\
import socket, sys, time
ends = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in sys.argv[1:]]
for end, name in zip(ends, sys.argv[1:]):
    end.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, name.encode())
    end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
    end.setblocking(False)
until = time.monotonic() + 5
while time.monotonic() < until:
    for end in ends:
        try:
            end.sendto(bytes(1400), ("10.77.0.200", 9))
        except OSError:
            pass
"""


@pytest.fixture
def scripts(debian: "DebianGuest") -> None:
    for name, text in (("send", SEND), ("serve", SERVE), ("echo", ECHO), ("flood", FLOOD)):
        debian.put(f"/tmp/{name}.py", text)


@pytest.fixture(scope="module")
def peer(debian_guest: "Image", shared_debian: Callable[[], DebianGuest]) -> Iterator[DebianGuest]:
    """Another guest of the same xend, on the isolated network `lab` as 10.99.0.2."""
    made = DebianGuest(shared_debian().xm, debian_guest, "peer")
    try:
        made.boot_bare(vifs=["isolated=lab"], memory=256)
        made.run(f"ip addr add 10.99.0.2/24 dev {made.link(0)} && ip link set {made.link(0)} up")
        made.put("/tmp/serve.py", SERVE)
        made.put("/tmp/send.py", SEND)
        yield made
    finally:
        made.end()


@contextmanager
def vif(guest: "DebianGuest", address: str, *words: str) -> Iterator[int]:
    """An interface with an address, meanwhile; its number."""
    number = guest.attach_vif(*words)
    link = guest.link(number)
    try:
        guest.run(f"ip addr replace {address} dev {link} && ip link set {link} up")
        yield number
    finally:
        guest.detach_vif(number)


# --- the user network


@pytest.mark.usefixtures("scripts")
def test_a_guest_reaches_the_host(debian: "DebianGuest") -> None:
    with sink(host_address()) as server:
        said = debian.run(f"python3 /tmp/send.py {host_address()} {server.port} 256")
        assert server.digest() == said
        assert server.count == 16 * MIB


@pytest.mark.usefixtures("scripts")
def test_the_host_reaches_services_that_speak_first_and_others(debian: "DebianGuest") -> None:
    port, silent = free_port(), free_port()
    forwards = (f"forward=tcp:{port}:5001", f"forward=tcp:{silent}:5002")
    data = os.urandom(MIB) * 8
    with vif(debian, "10.0.3.15/24", "ip=10.0.3.15", *forwards):
        debian.run(
            "cd /tmp; for p in '5001 greeting' 5002; do setsid python3 serve.py $p > served.${p%% *} 2>&1 & done;"
            "until grep -q serving served.5001 && grep -q serving served.5002; do sleep 0.1; done"
        )
        with socket.create_connection(("127.0.0.1", port), 60) as first:
            first.settimeout(60)
            assert first.recv(100) == b"greeting"
        with socket.create_connection(("127.0.0.1", silent), 60) as other:
            other.sendall(data)
        said = debian.run(
            "until [ $(wc -l < /tmp/served.5002) = 2 ]; do sleep 0.1; done; cat /tmp/served.5002"
        )
        assert said.split() == ["serving", hashlib.sha256(data).hexdigest()]


def _echoed(asking: socket.socket, where: tuple[str, int]) -> bytes:
    """Datagrams may be lost."""
    for _ in range(20):
        asking.sendto(b"hello", where)
        try:
            return asking.recv(100)
        except TimeoutError:
            continue
    return b""


def test_the_hosts_loopback_is_out_of_reach(debian: "DebianGuest") -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        port = server.getsockname()[1]
        status, _ = debian.attempt(f"timeout 3 bash -c 'echo > /dev/tcp/10.0.2.2/{port}'")
        assert status != 0
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.mark.usefixtures("scripts")
@pytest.mark.parametrize("program", ["passt", "slirp"])
def test_what_xend_toml_chooses(debian: "DebianGuest", program: str) -> None:
    """The program, and that the gateway leads to the host's loopback. Another xend reads it; the domain goes on."""
    if program == "passt" and "passt" not in debian.vif_facts(0)["description"]:
        pytest.skip("passt does not run here: what xend chose by itself is another")
    xm, port, echo = debian.xm, free_port(), free_port()
    file = Path(xm.environment["XDG_CONFIG_HOME"]) / "xenion" / "xend.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    forwards = (f"forward=tcp:{port}:22", f"forward=udp:{echo}:7")
    try:
        file.write_text(f'user_network = "{program}"\nhost_loopback = true\n')
        xm.stop_xend()
        with vif(debian, "10.0.4.15/24", "ip=10.0.4.15", *forwards) as number:
            assert program in debian.vif_facts(number)["description"]
            with socket.create_connection(("127.0.0.1", port), timeout=60) as forward:
                forward.settimeout(60)
                assert forward.recv(8) == b"SSH-2.0-"
            debian.run("setsid python3 /tmp/echo.py > /dev/null 2>&1 &")
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
                asking.settimeout(2)
                assert _echoed(asking, ("127.0.0.1", echo)) == b"hello"
            debian.run("pkill -f ech[o].py")
            with sink("127.0.0.1") as server:
                said = debian.run(f"python3 /tmp/send.py 10.0.4.2 {server.port} 16")
                assert server.digest() == said
    finally:
        file.unlink()
        xm.stop_xend()


def test_iperf3_between_guest_and_host(debian: "DebianGuest") -> None:
    program, port = tool("iperf3", "iperf3"), free_port()
    with subprocess.Popen([program, "-s", "-p", str(port)], stdout=subprocess.DEVNULL) as server:
        try:
            for words in ("", "-R"):
                assert _iperf3(debian, f"-c {host_address()} -p {port} -n 64M {words}") >= 48 * MIB
        finally:
            server.terminate()


def _iperf3(guest: "DebianGuest", words: str) -> int:
    """Bytes that were received, once the server is there."""
    guest.run(f"until iperf3 -J {words} > /tmp/iperf && grep -q sum_received /tmp/iperf; do sleep 0.3; done")
    return int(json.loads(guest.run("cat /tmp/iperf"))["end"]["sum_received"]["bytes"])


# --- isolated networks


@pytest.mark.usefixtures("scripts")
@pytest.mark.parametrize("mtu", [1500, 9000])
def test_guests_reach_each_other(debian: "DebianGuest", peer: "DebianGuest", mtu: int) -> None:
    """Also where one of them believes in a larger MTU than the other."""
    with vif(debian, "10.99.0.1/24", "isolated=lab") as number:
        debian.run(f"ip link set {debian.link(number)} mtu {mtu}")
        debian.run("ping -c 3 -i 0.2 -W 10 10.99.0.2")
        waiting = peer.shell.start("timeout 60 python3 /tmp/serve.py 5000")
        said = debian.run("until python3 /tmp/send.py 10.99.0.2 5000 64 2>/dev/null; do sleep 0.3; done")
        status, heard = peer.shell.finish(waiting)
        assert (status, heard.splitlines()) == (0, ["serving", said])
        waiting = debian.shell.start("timeout 60 python3 /tmp/serve.py 5000")
        said = peer.run("until python3 /tmp/send.py 10.99.0.1 5000 64 2>/dev/null; do sleep 0.3; done")
        status, heard = debian.shell.finish(waiting)
        assert (status, heard.splitlines()) == (0, ["serving", said])


def test_iperf3_between_guests(debian: "DebianGuest", peer: "DebianGuest") -> None:
    with vif(debian, "10.99.0.1/24", "isolated=lab"):
        peer.run("iperf3 -s -D -I /tmp/iperf.pid")
        for words in ("", "-R"):
            assert _iperf3(debian, f"-c 10.99.0.2 -n 16M {words}") >= 12 * MIB
        peer.run("kill $(tr -d '\\0' < /tmp/iperf.pid)")


def test_an_isolated_network_ends_where_it_ends(debian: "DebianGuest", peer: "DebianGuest") -> None:
    with vif(debian, "10.99.0.1/24", "isolated=elsewhere"):
        assert debian.attempt("ping -c 2 -i 0.2 -W 1 10.99.0.2")[0] != 0
    assert peer.vif_facts(0)["state"] == "connected"


@pytest.mark.usefixtures("peer")
def test_frames_of_others_are_dropped(debian: "DebianGuest") -> None:
    """Another MAC, and with ip= another source address; both in an ARP request too."""
    with vif(debian, "10.99.0.1/24", "isolated=lab", "ip=10.99.0.1") as number:
        link, mac = debian.link(number), debian.vif_facts(number)["mac"]
        ping = "ping -c 2 -i 0.2 -W 2 10.99.0.2"
        debian.run(ping)
        before = debian.vif_facts(number)["tx_drops"]
        debian.run(f"ip addr add 10.99.0.77/24 dev {link}")
        assert debian.attempt(f"{ping} -I 10.99.0.77")[0] != 0
        middle = debian.vif_facts(number)["tx_drops"]
        assert middle > before
        debian.run(f"ip addr del 10.99.0.77/24 dev {link}")
        debian.run(
            f"ip link set {link} down && ip link set {link} address 00:16:3e:00:00:99 && ip link set {link} up"
        )
        assert debian.attempt(ping)[0] != 0
        assert debian.vif_facts(number)["tx_drops"] > middle
        debian.run(f"ip link set {link} down && ip link set {link} address {mac} && ip link set {link} up")
        debian.run(ping)


@pytest.mark.usefixtures("scripts")
def test_rates(debian: "DebianGuest") -> None:
    """Of two interfaces that are flooded for the same while, one carries four times as much as the other."""
    with vif(debian, "10.77.0.1/24", "isolated=slow", "rate=200KB/s") as slow:  # noqa: SIM117
        with vif(debian, "10.77.0.2/24", "isolated=fast", "rate=800KB/s") as fast:
            links = [debian.link(number) for number in (slow, fast)]
            for link in links:
                debian.run(f"ip neigh replace 10.77.0.200 lladdr 00:16:3e:aa:bb:cc dev {link}")
            before = [debian.vif_facts(number)["tx_bytes"] for number in (slow, fast)]
            debian.run(f"python3 /tmp/flood.py {' '.join(links)}")
            done = [debian.vif_facts(n)["tx_bytes"] - b for n, b in zip((slow, fast), before, strict=True)]
    assert done[0] > 0
    assert 2.5 < done[1] / done[0] < 6, done


# --- listening


@pytest.mark.usefixtures("peer")
def test_what_passes_is_captured(debian: "DebianGuest", tmp_path: Path) -> None:
    file = tmp_path / "vif.pcap"
    with vif(debian, "10.99.0.1/24", "isolated=lab") as number:
        dump = debian.xm.start("network-dump", debian.name, str(number), "-w", file, "-c", "6")
        debian.run("until ping -c 4 -i 0.2 -s 200 -p ab 10.99.0.2; do :; done")
        ended = "until false; do ping -c 1 -W 1 10.99.0.2 >/dev/null; done"
        pinging = debian.shell.start(f"timeout 20 bash -c '{ended}'")
        said = dump.communicate(timeout=60)[1].decode()
        debian.shell.finish(pinging)
        assert dump.returncode == 0, said
        mac = bytes.fromhex(debian.vif_facts(number)["mac"].replace(":", ""))
    found = packets(file)
    assert len(found) == 6
    assert all(mac in (frame[:6], frame[6:12]) or frame[0] & 1 for frame in found)
    assert any(b"\xab" * 100 in frame for frame in found)
    listed = subprocess.run(
        [tool("tcpdump", "tcpdump"), "-n", "-r", file], check=True, capture_output=True, text=True
    )
    assert "ICMP echo request" in listed.stdout
