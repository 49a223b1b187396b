"""Which name servers a guest on a user network is told of."""

from ipaddress import AddressValueError, IPv4Address
from pathlib import Path

RESOLV_CONF = Path("/etc/resolv.conf")
UPSTREAM = Path("/run/systemd/resolve/resolv.conf")
"""Where systemd-resolved names those behind its own, which listens on the loopback only."""


def name_servers() -> list[IPv4Address]:
    """The host's, as far as they can be reached from outside of its loopback; IPv4 only."""
    for path in (RESOLV_CONF, UPSTREAM):
        found = [address for address in _in(path) if not address.is_loopback]
        if found:
            return found
    return []


def only_on_loopback() -> bool:
    """The host has name servers, and none that others could reach."""
    return not name_servers() and bool(_in(RESOLV_CONF))


def _in(path: Path) -> list[IPv4Address]:
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return []
    found = []
    for words in map(str.split, lines):
        if len(words) > 1 and words[0] == "nameserver":
            try:
                found.append(IPv4Address(words[1]))
            except AddressValueError:
                continue
    return found
