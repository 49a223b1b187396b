"""Networks of the host's, for root: xend and its domains in a network namespace, and another one for the world."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.system.disk_guest import DebianGuest
from tests.system.images_on_host import tool
from tests.system.namespaces import Namespaces, add_cable, add_link, inside, run, usable

if TYPE_CHECKING:
    from tests.system.disk_guest import Image
    from tests.system.xm import Xm

WORLD, HOST, NAT, BRIDGE = "192.0.2.1", "192.0.2.2", "10.55.0.1", "10.66.0.1"
SETTINGS = f'[networks.lan]\nkind = "nat"\naddress = "{NAT}/24"\n'


class HostAndWorld(Namespaces):
    """`host`, where xend runs and a bridge br0 is, and `world`, with a cable between them."""

    def __init__(self) -> None:
        super().__init__("host", "world")
        self.host, self.world = self.names

    def make(self) -> None:
        super().make()
        add_cable(self.host, "up0", self.world, "up0")
        add_link(self.host, "up0", address=HOST)
        add_link(self.host, "br0", "bridge", address=BRIDGE)
        add_link(self.world, "up0", address=WORLD)
        run("ip", "-n", self.host, "route", "add", "default", "via", WORLD)
        run("ip", "-n", self.world, "route", "add", "10.55.0.0/24", "via", HOST)

    def links(self) -> set[str]:
        shown = run("ip", "-n", self.host, "-o", "link", "show")
        return {line.split(": ")[1].split("@")[0] for line in shown.splitlines()}


@pytest.fixture
def namespaces() -> Iterator[HostAndWorld]:
    yield from usable(HostAndWorld())


def test_nat_and_a_bridge(xm: "Xm", debian_guest: "Image", namespaces: HostAndWorld) -> None:
    file = Path(xm.environment["XDG_CONFIG_HOME"]) / "xenion" / "xend.toml"
    file.parent.mkdir(parents=True)
    file.write_text(SETTINGS)
    here, outside = inside(namespaces.host), inside(namespaces.world)
    iperf3, before = tool("iperf3", "iperf3"), namespaces.links()
    assert xm.run("list", before=here).status == 0  # starts xend, and all others come from there
    guest = DebianGuest(xm, debian_guest, "natted")
    guest.boot_bare(vifs=["network=lan, ip=10.55.0.9", "bridge=br0, vifname=tap-test"], memory=256)
    assert {"xn-lan", "tap-test"} <= namespaces.links()
    nat, bridged = guest.link(0), guest.link(1)
    for address, link in (("10.55.0.9", nat), ("10.66.0.2", bridged)):
        guest.run(f"ip addr add {address}/24 dev {link} && ip link set {link} up")
    guest.run(f"ip route add default via {NAT}")
    for address in (NAT, BRIDGE, WORLD):
        guest.run(f"ping -c 2 -W 20 {address}")

    guest.run("iperf3 -s -D; until ss -ltn | grep -q 5201; do sleep 0.1; done")
    run(*here, iperf3, "-c", "10.66.0.2", "-n", "8M")
    with subprocess.Popen([*outside, iperf3, "-s", "-1", "-J"], stdout=subprocess.PIPE) as server:
        guest.run(f"until iperf3 -c {WORLD} -n 8M > /dev/null; do sleep 0.3; done")
        told = json.loads(server.communicate(timeout=60)[0])
    assert told["start"]["accepted_connection"]["host"].removeprefix("::ffff:") == HOST
    knock = "import socket; socket.create_connection(('10.55.0.9', 5201), 3)"
    assert subprocess.run(
        [*outside, sys.executable, "-c", knock], capture_output=True, check=False
    ).returncode

    drops = guest.vif_facts(0)["tx_drops"]
    guest.run(f"ip addr add 10.55.0.77/24 dev {nat}")
    assert guest.attempt(f"ping -c 2 -i 0.3 -W 2 -I 10.55.0.77 {NAT}")[0] != 0
    assert guest.vif_facts(0)["tx_drops"] > drops

    guest.destroy()
    xm.stop_xend()
    assert namespaces.links() == before
    assert "xenion" not in run(*here, tool("nft", "nftables"), "list", "ruleset")
