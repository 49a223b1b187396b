"""MAC addresses of virtual interfaces."""

from __future__ import annotations

import re

from xenion.config.errors import ConfigError, shown

OUI = "00:16:3e"
"""Xen's own."""
_MAC = re.compile("[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_MULTICAST = 1


def default_mac(uuid: str, index: int, attempt: int = 0) -> str:
    """The address of a domain's interface `index` that has none: the same for the same domain, whenever it is asked.

    It is one of 2^23, so that two may be equal: `attempt` gives others.
    """
    from hashlib import sha256

    first, second, third = sha256(f"{uuid}/{index}/{attempt}".encode()).digest()[:3]
    return f"{OUI}:{first & 0x7F:02x}:{second:02x}:{third:02x}"


def check_mac(mac: str) -> None:
    """Raise `ConfigError` unless an interface can have `mac`, in lower case, as its own."""
    if not _MAC.fullmatch(mac):
        form = f"six pairs of hexadecimal digits with : between them, such as {OUI}:12:34:56"
        raise ConfigError(f"mac must be {form}, not {shown(mac)}", key="mac")
    if int(mac[:2], 16) & _MULTICAST:
        raise ConfigError(f"mac must not be {mac}: it is a group's address", key="mac")
    if not mac.strip("0:"):
        raise ConfigError("mac must not be all zeros", key="mac")
