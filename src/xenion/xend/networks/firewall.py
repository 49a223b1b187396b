"""nftables rules of a network, a table of its own, through libnftables: what nft(8) is a wrapper of."""

import ctypes
from functools import cache
from typing import Any

from xenion.xend.networks.defined import Kind, Network

LIBRARY = "libnftables.so.1"
PACKAGE = "libnftables1"


class FirewallError(Exception):
    """A sentence's end: why there are no rules."""


def rules(network: Network) -> str:
    """In nft's language; replaces the network's table in one step."""
    if network.address is None:
        raise ValueError(f"{network.name} has no address")
    inside, subnet = network.bridge, network.address.network
    forward = [f'iifname "{inside}" ip saddr != {subnet} drop']
    post: list[str] = []
    match network.kind:
        case Kind.NAT:
            forward.append(
                f'iifname != "{inside}" oifname "{inside}" ct state != {{ established, related }} drop'
            )
            post.append(f'ip saddr {subnet} oifname != "{inside}" masquerade')
        case Kind.ISOLATED:
            forward = [
                f'iifname "{inside}" oifname != "{inside}" drop',
                f'iifname != "{inside}" oifname "{inside}" drop',
            ]
    return "\n".join(
        [
            removal(network),
            f"add table ip {table(network)}",
            *_chain(network, "forward", "filter", "forward", "filter", forward),
            *_chain(network, "outward", "nat", "postrouting", "srcnat", post),
            "",
        ]
    )


def _chain(network: Network, name: str, kind: str, hook: str, priority: str, lines: list[str]) -> list[str]:
    if not lines:
        return []
    at = f"ip {table(network)} {name}"
    made = f"add chain {at} {{ type {kind} hook {hook} priority {priority}; policy accept; }}"
    return [made, *(f"add rule {at} {line}" for line in lines)]


def removal(network: Network) -> str:
    """Added first, so that there is one to delete."""
    return f"add table ip {table(network)}\ndelete table ip {table(network)}"


def table(network: Network) -> str:
    return f"xenion-{network.name}"


def apply(script: str) -> None:
    """All of it or nothing. FirewallError."""
    nft = _library()
    context = nft.nft_ctx_new(0)
    if not context:
        raise FirewallError("libnftables cannot be used")
    try:
        nft.nft_ctx_buffer_error(context)
        if nft.nft_run_cmd_from_buffer(context, script.encode()):
            said = (nft.nft_ctx_get_error_buffer(context) or b"").decode(errors="replace").splitlines()
            raise FirewallError(said[0].removeprefix("Error: ") if said else "it gives no reason")
    finally:
        nft.nft_ctx_free(context)


@cache
def _library() -> Any:
    try:
        nft = ctypes.CDLL(LIBRARY)
    except OSError:
        raise FirewallError(f"libnftables is not installed: apt-get install {PACKAGE}") from None
    nft.nft_ctx_new.restype = ctypes.c_void_p
    nft.nft_ctx_new.argtypes = [ctypes.c_uint32]
    nft.nft_ctx_get_error_buffer.restype = ctypes.c_char_p
    nft.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    for name in ("nft_ctx_buffer_error", "nft_ctx_get_error_buffer", "nft_ctx_free"):
        getattr(nft, name).argtypes = [ctypes.c_void_p]
    return nft
