"""The keys of disks, network interfaces and cloud-init."""

from __future__ import annotations

from collections.abc import Iterator

from xenion.config.key import Key, acted
from xenion.config.values import Kind


def device_keys() -> Iterator[Key]:
    """All of them."""
    yield acted(
        "disk",
        Kind.ITEMS,
        None,
        '["/srv/web.qcow2,qcow2,xvda,w"]',
        "Virtual disks; how each is written is told under Disks.",
    )
    yield acted(
        "vif",
        Kind.ITEMS,
        None,
        '["forward=tcp:8022:22"]',
        "Virtual network interfaces; how each is written is told under Network interfaces.",
    )
    yield acted(
        "nics",
        Kind.NUMBER,
        -1,
        "1",
        "Least number of network interfaces (xm): `vif` is filled up with empty ones.",
    )
    yield acted(
        "cloud_user_data",
        Kind.PATH,
        None,
        '"/srv/web.yaml"',
        "File that cloud-init in the guest finds as user data (Xenion's own key).",
    )
    yield acted(
        "cloud_meta_data",
        Kind.PATH,
        None,
        '"/srv/meta-data"',
        "File that cloud-init finds as meta-data, instead of one that is made (Xenion's own key).",
    )
    yield acted(
        "cloud_network_config",
        Kind.PATH,
        None,
        '"/srv/network.yaml"',
        "File that cloud-init finds as network-config (Xenion's own key).",
    )
    yield acted(
        "cloud_hostname",
        Kind.TEXT,
        None,
        '"web"',
        "Host name that cloud-init gives the guest; else the domain's name (Xenion's own key).",
    )
    yield acted(
        "cloud_ssh_keys",
        Kind.ITEMS,
        None,
        '["ssh-ed25519 AAAA..."]',
        "Public keys that cloud-init lets in as the guest's default user (Xenion's own key).",
    )
