"""The host's name servers, as far as a guest can reach them."""

from ipaddress import IPv4Address
from pathlib import Path

import pytest

from xenion.xend.networks import dns


@pytest.mark.parametrize(
    ("own", "upstream", "servers", "loopback"),
    [
        ("nameserver 192.0.2.1\nsearch x\nnameserver 192.0.2.2\n", None, ["192.0.2.1", "192.0.2.2"], False),
        ("nameserver 127.0.0.53\n", "nameserver 192.0.2.1\n", ["192.0.2.1"], False),
        ("nameserver 127.0.0.1\n", None, [], True),
        ("nameserver 127.0.0.1\n", "nameserver ::1\n", [], True),
        ("# nameserver 192.0.2.1\nnameserver\nnameserver fe80::1%eth0\n\xff\n", None, [], False),
        (None, None, [], False),
    ],
)
def test_name_servers(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    own: str | None,
    upstream: str | None,
    servers: list[str],
    loopback: bool,
) -> None:
    for name, text in (("RESOLV_CONF", own), ("UPSTREAM", upstream)):
        monkeypatch.setattr(dns, name, tmp_path / name)
        if text is not None:
            (tmp_path / name).write_bytes(text.encode("latin-1"))
    assert dns.name_servers() == [IPv4Address(server) for server in servers]
    assert dns.only_on_loopback() == loopback
