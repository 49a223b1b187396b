"""What tells a network's switches where an interface is now: a reverse ARP request (RFC 903) that nobody answers."""

ETHER_RARP, REVERSE_REQUEST = 0x8035, 3
BROADCAST = bytes([0xFF] * 6)
_ETHERNET_IPV4 = bytes.fromhex("0001 0800 0604")
NO_ADDRESS = bytes(4)
SHORTEST = 60
"""Of a frame, without its checksum."""


def announcement(mac: str) -> bytes:
    """The frame, from and about `mac`."""
    own = bytes.fromhex(mac.replace(":", ""))
    header = BROADCAST + own + ETHER_RARP.to_bytes(2, "big")
    body = _ETHERNET_IPV4 + REVERSE_REQUEST.to_bytes(2, "big") + (own + NO_ADDRESS) * 2
    return (header + body).ljust(SHORTEST, b"\0")
