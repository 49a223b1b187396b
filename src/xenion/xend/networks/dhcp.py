"""dnsmasq for one network: addresses, and names where it leads outside. It is the network's, not a domain's."""

from pathlib import Path

from xenion.xend import helpers
from xenion.xend.helpers import Helper
from xenion.xend.networks.defined import Kind, Network

PROGRAM = "dnsmasq"
LEASE = "12h"
LEASES_MAX = 4096


def words(network: Network, folder: Path, hosts: dict[str, str]) -> list[str]:
    """The command without the program. `hosts`: addresses that are promised, by MAC."""
    address = network.address
    if address is None:
        raise ValueError(f"{network.name} has no address")
    inside = address.network
    first = inside[1] if address.ip != inside[1] else inside[2]
    last = inside[-2] if address.ip != inside[-2] else inside[-3]
    return [
        *("--conf-file=/dev/null", "--no-hosts", "--user=nobody", "--log-facility=-", "--quiet-dhcp"),
        *(f"--interface={network.bridge}", "--except-interface=lo", "--bind-interfaces"),
        *(("--port=0", "--dhcp-option=option:router") if network.kind is Kind.ISOLATED else ()),
        *(f"--dhcp-range={first},{last},{inside.netmask},{LEASE}", "--dhcp-authoritative"),
        *(f"--dhcp-leasefile={folder / network.name}.leases", f"--dhcp-lease-max={LEASES_MAX}"),
        *(f"--dhcp-host={mac},{ip}" for mac, ip in sorted(hosts.items())),
    ]


def mark(network: Network, folder: Path) -> Path:
    """What the server is known by as this network's."""
    return folder / network.name


async def start(network: Network, folder: Path, hosts: dict[str, str]) -> Helper | str:
    """Why it cannot, if it cannot. ApiError (failed)."""
    if not helpers.installed(PROGRAM):
        return f"{PROGRAM} is not installed: apt-get install {helpers.PACKAGES[PROGRAM]}"
    pid_file = folder / f"{network.name}.{PROGRAM}.pid"
    made = await helpers.start_daemon(
        f"{PROGRAM} of the network {network.name}",
        [helpers.find(PROGRAM), *words(network, folder, hosts), f"--pid-file={pid_file}"],
        pid_file=pid_file,
        works_for=mark(network, folder),
    )
    return made.splitlines()[-1].removeprefix(f"{PROGRAM}: ") if isinstance(made, str) else made
