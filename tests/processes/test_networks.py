"""Devices, bridges and networks of the host's, each test in a network namespace of its own."""

import asyncio
import json
import os
import socket
import struct
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from typing import Any

import pytest

from tests.descriptors import descriptors
from tests.unit.xend.networks.kit import (
    MAC,
    arp_answer,
    arp_request,
    give_rights_up,
    in_namespace,
    need_tun,
    place,
    refusal,
    run,
    udp,
    vif,
)
from xenion.config.vif import Attachment
from xenion.xend import helpers
from xenion.xend.networks import dhcp, firewall, links, tap
from xenion.xend.networks.defined import Kind, Network
from xenion.xend.networks.links import Link
from xenion.xend.networks.plugging import Networks

ADDRESS = IPv4Interface("10.55.0.1/24")
LAN = Network("lan", Kind.NAT, "xn-lan", ADDRESS, uplink="up0")
HAS = ("br0", "up0", "up1")
Work = Callable[[Networks], Awaitable[None]]


def networks(at: Path, *defined: Network) -> Networks:
    return Networks(at, {network.name: network for network in defined})


def with_host(at: Path, work: Work, *defined: Network) -> None:
    """In a namespace with a bridge br0 and an uplink up0."""
    need_tun()

    def inside() -> None:
        with links.opened() as host:
            host._route.link("add", ifname="br0", kind="bridge")
            host._route.link("add", ifname="up0", kind="veth", peer="up1")
        run(work(networks(at, *defined)))

    in_namespace(inside)


def elsewhere(look: Callable[..., Any]) -> Callable[..., Any]:
    """pyroute2 does not run on a thread that has an event loop."""

    def called(*values: object) -> Any:
        with ThreadPoolExecutor(1) as other:
            return other.submit(look, *values).result()

    return called


@elsewhere
def found(name: str) -> Link | None:
    with links.opened() as host:
        return host.find(name)


@elsewhere
def addresses(name: str) -> list[str]:
    with links.opened() as host:
        bridge = host.find(name)
        assert bridge is not None
        return [each.get_attr("IFA_ADDRESS") for each in host._route.get_addr(index=bridge.index, family=2)]


def add_bridge(name: str) -> None:
    with links.opened() as host:
        host.add_bridge(name, "02:00:00:00:00:01")


def readdress(name: str, address: str) -> None:
    with links.opened() as host:
        bridge = host.find(name)
        assert bridge is not None
        host.address(bridge.index, IPv4Interface(address))


@elsewhere
def devices() -> dict[str, str]:
    """Name -> name of the bridge that it is a port of, or ""."""
    with links.opened() as host:
        there = {link["index"]: link for link in host._route.get_links()}
        return {
            link.get_attr("IFLA_IFNAME"): there[master].get_attr("IFLA_IFNAME")
            if (master := link.get_attr("IFLA_MASTER"))
            else ""
            for link in there.values()
        }


def ruleset() -> str:
    nft = firewall._library()
    context = nft.nft_ctx_new(0)
    nft.nft_ctx_buffer_output.argtypes = nft.nft_ctx_free.argtypes
    nft.nft_ctx_get_output_buffer.argtypes = nft.nft_ctx_free.argtypes
    nft.nft_ctx_get_output_buffer.restype = nft.nft_ctx_get_error_buffer.restype
    nft.nft_ctx_buffer_output(context)
    nft.nft_run_cmd_from_buffer(context, b"list ruleset")
    text = nft.nft_ctx_get_output_buffer(context).decode()
    nft.nft_ctx_free(context)
    return str(text)


def test_a_bridge(tmp_path: Path) -> None:
    async def work(nets: Networks) -> None:
        made = await nets.plug(
            vif(Attachment.BRIDGE, "br0", addresses=("10.0.0.2",), rate_bytes=9), place(tmp_path)
        )
        assert made.description == {
            "peer": "bridge",
            "devid": 0,
            "options": {
                "mac": MAC,
                "addresses": ("10.0.0.2",),
                "anti_spoofing": True,
                "rate_bytes": 9,
                "rate_window_us": 50_000,
                "queues": 1,
                "mtu": 1500,
            },
            "wire": {"kind": "tap", "big": True, "acknowledge_syn_ack": False},
        }
        assert json.loads(json.dumps(made.undo)) == made.undo
        assert devices()["vif5.0"] == "br0"
        port = found("vif5.0")
        assert port is not None
        assert port.mac == links.PORT_MAC
        again = await refusal(nets.plug(vif(Attachment.BRIDGE, "br0"), place(tmp_path)))
        assert "has a network device vif5.0 already" in again.message
        named = await nets.plug(vif(Attachment.BRIDGE, "br0", name="web0"), place(tmp_path, 1))
        made.close()
        assert set(devices()) == {"lo", *HAS, "web0"}, "it goes with its last descriptor"
        await nets.unplug(made.undo)
        await nets.unplug(named.undo)
        assert set(devices()) == {"lo", *HAS}, "whoever still holds it"
        named.close()

    with_host(tmp_path, work)


def test_what_is_no_bridge(tmp_path: Path) -> None:
    async def work(nets: Networks) -> None:
        error = await refusal(nets.plug(vif(Attachment.BRIDGE, "br9"), place(tmp_path)))
        assert "there is no bridge br9 on the host" in error.message
        error = await refusal(nets.plug(vif(Attachment.BRIDGE, "up0"), place(tmp_path)))
        assert "the host's up0 is no bridge" in error.message
        error = await refusal(nets.plug(vif(Attachment.NETWORK, "lan"), place(tmp_path)))
        assert "xend.toml has no [networks.lan]: it defines none" in error.message

    with_host(tmp_path, work)


def test_undone_only_what_was_done(tmp_path: Path) -> None:
    """Another device may have the name by now."""

    async def work(nets: Networks) -> None:
        made = await nets.plug(vif(Attachment.BRIDGE, "br0", name="web0"), place(tmp_path))
        made.close()
        other = tap.open_tap("web0")
        await nets.unplug(made.undo)
        assert "web0" in devices()
        os.close(other)

    with_host(tmp_path, work)


def test_a_nat_network(tmp_path: Path) -> None:
    async def work(nets: Networks) -> None:
        assert not links.forwards("up0")
        one = await nets.plug(vif(Attachment.NETWORK, "lan"), place(tmp_path))
        assert any("the host forwards packets that come in by up0" in note for note in one.notes)
        assert links.forwards("up0")
        assert links.forwards("xn-lan")
        assert not links.forwards("br0")
        assert 'ip saddr 10.55.0.0/24 oifname != "xn-lan" masquerade' in ruleset()
        assert addresses("xn-lan") == ["10.55.0.1"]
        two = await nets.plug(vif(Attachment.NETWORK, "lan", mac="00:16:3e:00:00:02"), place(tmp_path, 1))
        one.close()
        await nets.unplug(one.undo)
        assert devices()["vif5.1"] == "xn-lan"
        two.close()
        later = networks(tmp_path, LAN)
        await later.unplug(two.undo)
        await later.unplug(two.undo)
        assert set(devices()) == {"lo", *HAS}
        assert not links.forwards("up0")
        assert "lan" not in ruleset()
        assert list((tmp_path / "networks").iterdir()) == []

    with_host(tmp_path, work, LAN)


def test_packets_through_nat(tmp_path: Path) -> None:
    """A guest's packet leaves by the uplink with the host's address; one with a stranger's address does not."""
    guest, gateway = IPv4Address("10.55.0.7"), IPv4Address("10.55.0.1")
    server, stranger = IPv4Address("192.0.2.9"), IPv4Address("203.0.113.5")

    async def work(nets: Networks) -> None:
        uplink()
        made = await nets.plug(vif(Attachment.NETWORK, "lan"), place(tmp_path))
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800)) as outside:
            outside.bind(("up1", 0x0800))
            outside.settimeout(30)
            tap_end = made.fds[0]
            os.set_blocking(tap_end, True)
            to_host = found("xn-lan").mac
            os.write(tap_end, bytes(tap.HEADER_BYTES) + arp_request(guest, gateway))
            while arp_answer(os.read(tap_end, 1 << 16)[tap.HEADER_BYTES :]) != gateway:
                pass
            for source, data in ((stranger, b"forged"), (guest, b"question")):
                frame = udp(source, server, (4000, 53), data)
                os.write(
                    tap_end, bytes(tap.HEADER_BYTES) + bytes.fromhex(to_host.replace(":", "")) + frame[6:]
                )
            seen = outside.recv(1 << 16)
            while seen[23] != 17:
                seen = outside.recv(1 << 16)
        assert seen.endswith(b"question"), "what is forged is dropped"
        assert (seen[26:30], seen[30:34]) == (IPv4Address("192.0.2.1").packed, server.packed)
        made.close()
        await nets.unplug(made.undo)

    with_host(tmp_path, work, LAN)


@elsewhere
def uplink() -> None:
    with links.opened() as host:
        one, two = host.find("up0"), host.find("up1")
        assert one is not None
        assert two is not None
        host.address(one.index, IPv4Interface("192.0.2.1/24"))
        host._route.link("set", index=two.index, state="up")
        host._route.neigh(
            "add", dst="192.0.2.9", lladdr="02:00:00:00:00:09", ifindex=one.index, state="permanent"
        )


def test_what_was_on_stays_on(tmp_path: Path) -> None:
    async def work(nets: Networks) -> None:
        links.forward("up0", on=True)
        made = await nets.plug(vif(Attachment.NETWORK, "lan"), place(tmp_path))
        assert not any("forwards packets" in note for note in made.notes)
        made.close()
        await nets.unplug(made.undo)
        assert links.forwards("up0")

    with_host(tmp_path, work, LAN)


def test_two_networks_with_one_uplink(tmp_path: Path) -> None:
    dmz = Network("dmz", Kind.ROUTED, "xn-dmz", IPv4Interface("10.56.0.1/24"), uplink="up0")

    async def work(nets: Networks) -> None:
        one = await nets.plug(vif(Attachment.NETWORK, "lan"), place(tmp_path))
        two = await nets.plug(vif(Attachment.NETWORK, "dmz"), place(tmp_path, 1))
        assert "table ip xenion-dmz" in ruleset()
        assert ruleset().count("masquerade") == 1
        one.close()
        await nets.unplug(one.undo)
        assert links.forwards("up0")
        two.close()
        await nets.unplug(two.undo)
        assert not links.forwards("up0")
        assert "table" not in ruleset()

    with_host(tmp_path, work, LAN, dmz)


@pytest.mark.parametrize("address", [None, ADDRESS])
def test_an_isolated_network(tmp_path: Path, address: IPv4Interface | None) -> None:
    alone = Network("alone", Kind.ISOLATED, "xn-alone", address)

    async def work(nets: Networks) -> None:
        (links.SYSCTL / "ipv4/ip_forward").write_text("1")
        made = await nets.plug(vif(Attachment.NETWORK, "alone"), place(tmp_path))
        assert not links.forwards("xn-alone")
        assert ("drop" in ruleset()) == (address is not None)
        made.close()
        await nets.unplug(made.undo)
        assert "xn-alone" not in devices()

    with_host(tmp_path, work, alone)


def test_a_bridge_that_xend_toml_names(tmp_path: Path) -> None:
    async def work(nets: Networks) -> None:
        made = await nets.plug(vif(Attachment.NETWORK, "office"), place(tmp_path))
        assert devices()["vif5.0"] == "br0"
        made.close()
        await nets.unplug(made.undo)
        assert "br0" in devices()

    with_host(tmp_path, work, Network("office", Kind.BRIDGE, "br0"))


def test_somebody_else_s_bridge_is_left_alone(tmp_path: Path) -> None:
    async def work(nets: Networks) -> None:
        await asyncio.to_thread(add_bridge, "xn-lan")
        error = await refusal(nets.plug(vif(Attachment.NETWORK, "lan"), place(tmp_path)))
        assert "a device xn-lan that is not xend's" in error.message
        assert "xn-lan" in devices()

    with_host(tmp_path, work, LAN)


def test_what_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lost = Network("lan", Kind.NAT, "xn-lan", ADDRESS, uplink="none0")

    async def work(nets: Networks) -> None:
        before = descriptors()
        where = place(tmp_path)
        error = await refusal(nets.plug(vif(Attachment.NETWORK, "lan"), where))
        assert "its uplink none0 does not exist" in error.message
        wrong = vif(Attachment.NETWORK, "good", addresses=("192.0.2.1",))
        error = await refusal(nets.plug(wrong, where))
        assert "ip=192.0.2.1 is not in 10.55.0.0/24" in error.message

        def fail(*_: object) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as broken:
            broken.setattr(links.Links, "attach", fail)
            error = await refusal(nets.plug(vif(Attachment.NETWORK, "good"), where))
        assert "cannot be set up: No space left" in error.message
        await refusal(nets.plug(vif(Attachment.BRIDGE, "br9"), where))
        assert set(devices()) == {"lo", *HAS}
        os.close(where.said)
        assert descriptors() == before
        assert "table" not in ruleset()

    good = Network("good", Kind.NAT, "xn-good", ADDRESS, dhcp=True, uplink="up0")
    with_host(tmp_path, work, lost, good)


def test_given_up_in_the_middle_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(nets: Networks) -> None:
        where = place(tmp_path)
        before = descriptors()
        for step in (nets._host.ensure, links.Links.attach):
            begun, go_on = threading.Event(), threading.Event()

            def slow(*values: Any, step: Any = step, begun: Any = begun, go_on: Any = go_on) -> Any:
                begun.set()
                assert go_on.wait(20)
                return step(*values)

            with monkeypatch.context() as slowed:
                owner: Any = links.Links if step is links.Links.attach else nets._host
                slowed.setattr(owner, step.__name__, slow)
                plugging = asyncio.ensure_future(nets.plug(vif(Attachment.NETWORK, "lan"), where))
                await asyncio.to_thread(begun.wait, 20)
                plugging.cancel()
                await asyncio.sleep(0)
                go_on.set()
                with pytest.raises(asyncio.CancelledError):
                    await plugging
            assert set(devices()) == {"lo", *HAS}
            assert "table" not in ruleset()
        os.close(where.said)
        assert len(descriptors()) == len(before) - 1

    with_host(tmp_path, work, LAN)


def test_killed_in_the_middle(tmp_path: Path) -> None:
    """Whatever a xend had done when it was killed, the next one does the rest, and undoes all of it."""

    async def work(nets: Networks) -> None:
        await asyncio.to_thread(nets._host.ensure, LAN)
        await asyncio.to_thread(readdress, "xn-lan", "10.77.0.1/24")
        assert addresses("xn-lan") == ["10.77.0.1"]
        links.forward("xn-lan", on=False)
        made = await networks(tmp_path, LAN).plug(vif(Attachment.NETWORK, "lan"), place(tmp_path))
        assert addresses("xn-lan") == ["10.55.0.1"]
        assert links.forwards("xn-lan")
        made.close()
        await nets.unplug(made.undo)
        assert not links.forwards("up0")

    with_host(tmp_path, work, LAN)


def test_dnsmasq(tmp_path: Path) -> None:
    if not helpers.installed(dhcp.PROGRAM):
        pytest.skip("dnsmasq is not here: install dnsmasq-base")
    lan = Network("lan", Kind.NAT, "xn-lan", ADDRESS, dhcp=True, uplink="up0")

    def server(nets: Networks) -> helpers.Helper:
        found = nets._host.read(lan).server
        assert found is not None
        assert found.alive
        return found

    async def work(nets: Networks) -> None:
        one = await nets.plug(vif(Attachment.NETWORK, "lan"), place(tmp_path))
        if any("failed to change group-id" in note for note in one.notes):
            pytest.skip("dnsmasq becomes nobody, whom a user's namespace does not have: run this as root")
        assert not any("hands out no addresses" in note for note in one.notes), one.notes
        first = server(nets)
        assert offered(one.fds[0]) in ADDRESS.network
        two = await nets.plug(vif(Attachment.NETWORK, "lan", mac="00:16:3e:00:00:02"), place(tmp_path, 1))
        assert server(nets) == first
        three = await nets.plug(
            vif(Attachment.NETWORK, "lan", mac="00:16:3e:00:00:03", addresses=("10.55.0.9",)),
            place(tmp_path, 2),
        )
        other = server(nets)
        assert other != first
        assert not first.alive
        words = Path(f"/proc/{other.pid}/cmdline").read_bytes().split(b"\0")
        assert b"--dhcp-host=00:16:3e:00:00:03,10.55.0.9" in words
        assert offered(three.fds[0], "00:16:3e:00:00:03") == IPv4Address("10.55.0.9")
        other.process.kill()
        await other.ended()
        four = await nets.plug(vif(Attachment.NETWORK, "lan", mac="00:16:3e:00:00:04"), place(tmp_path, 3))
        last = server(nets)
        assert last != other
        for made in (one, two, three, four):
            made.close()
            await nets.unplug(made.undo)
        assert not last.alive
        assert list((tmp_path / "networks").iterdir()) == []

    with_host(tmp_path, work, lan)


def offered(tap_end: int, mac: str = MAC) -> IPv4Address:
    """What a DHCPDISCOVER is answered with (RFC 2131)."""
    sender = bytes.fromhex(mac.replace(":", ""))
    question = struct.pack(">BBBBIHH16x16s192x", 1, 1, 6, 0, 0x1234, 0, 0x8000, sender)
    question += b"\x63\x82\x53\x63" + b"\x35\x01\x01" + b"\xff" + bytes(60)
    frame = udp(IPv4Address(0), IPv4Address("255.255.255.255"), (68, 67), question)
    os.set_blocking(tap_end, True)
    os.write(tap_end, bytes(tap.HEADER_BYTES) + frame[:6] + sender + frame[12:])
    while True:
        answer = os.read(tap_end, 1 << 16)[tap.HEADER_BYTES :]
        if answer[12:14] == b"\x08\0" and answer[23] == 17 and answer[36:38] == (68).to_bytes(2, "big"):
            return IPv4Address(answer[42 + 16 : 42 + 20])


def test_no_dnsmasq_is_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lan = Network("lan", Kind.ISOLATED, "xn-lan", ADDRESS, dhcp=True)
    monkeypatch.setattr(helpers, "installed", lambda _: False)

    async def work(nets: Networks) -> None:
        made = await nets.plug(vif(Attachment.NETWORK, "lan"), place(tmp_path))
        assert made.notes == [
            "network lan hands out no addresses: dnsmasq is not installed: apt-get install dnsmasq-base; "
            "or give them by hand in its guests"
        ]
        made.close()
        await nets.unplug(made.undo)

    with_host(tmp_path, work, lan)


def test_a_user_is_told_what_to_use_instead(tmp_path: Path) -> None:
    need_tun()

    def inside() -> None:
        with links.opened() as host:
            host._route.link("add", ifname="br0", kind="bridge")
        where, made = place(tmp_path), networks(tmp_path, LAN)
        give_rights_up()
        for chosen in (vif(Attachment.BRIDGE, "br0"), vif(Attachment.NETWORK, "lan")):
            error = run(refusal(made.plug(chosen, where)))
            assert "needs root, and xend is run by user" in error.message
            assert "use the user network, which needs no rights" in error.message

    in_namespace(inside)


def test_many_at_once(tmp_path: Path) -> None:
    async def work(nets: Networks) -> None:
        where = [place(tmp_path, number) for number in range(5)]
        counts = []
        for _ in range(4):
            made = await asyncio.gather(*(nets.plug(vif(Attachment.NETWORK, "lan"), at) for at in where))
            for each in made:
                each.close()
            await asyncio.gather(*(nets.unplug(each.undo) for each in made))
            counts.append(len(descriptors()))
        assert len(set(counts)) == 1, "nothing stays open"
        assert set(devices()) == {"lo", *HAS}
        assert not links.forwards("up0")

    with_host(tmp_path, work, LAN)
