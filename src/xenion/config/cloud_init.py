"""What a guest's cloud-init is to find at its first boot (the NoCloud data source), as the configuration gives it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from xenion.config.checks import (
    check_path,
    check_text,
    members,
    path_or_none,
    plain_fields,
    text,
    texts,
    within,
)
from xenion.config.errors import ConfigError, shown

KEYS_MAX = 100
KEY_BYTES = 16384

_LABEL = "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOSTNAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(\.{_LABEL})*")
_SSH_KEY = re.compile("(?:^| )[a-z][a-z0-9@.-]+ +[A-Za-z0-9+/]{8,}={0,3}(?: |$)")


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudInit:
    """Files that go into the seed image as they are, by absolute paths, and short forms of what `meta-data` holds.

    Making one with a bad value raises `ConfigError`; no file is looked up.
    """

    user_data: Path | None = None
    meta_data: Path | None = None
    network_config: Path | None = None
    hostname: str = ""
    """The guest's; empty: the domain's name."""
    ssh_keys: tuple[str, ...] = ()
    """Public keys of the guest's default user, as authorized_keys has them."""

    def __post_init__(self) -> None:
        for name in ("user_data", "meta_data", "network_config"):
            if (path := getattr(self, name)) is not None:
                check_path(f"cloud_{name}", path)
        if self.hostname and not _HOSTNAME.fullmatch(self.hostname):
            sentence = f"cloud_hostname must be a host name, not {shown(self.hostname)}"
            raise ConfigError(sentence, key="cloud_hostname")
        _check_keys(self.ssh_keys)
        for name in ("hostname", "ssh_keys"):
            if self.meta_data is not None and getattr(self, name):
                sentence = f"cloud_meta_data and cloud_{name} exclude each other: write it in that file"
                raise ConfigError(sentence, key=f"cloud_{name}")

    def to_mapping(self) -> dict[str, object]:
        """As plain JSON values, every field in it."""
        return plain_fields(self)

    @classmethod
    def from_mapping(cls, values: object) -> CloudInit:
        """From plain JSON values; raises `ConfigError` for anything unknown or mistyped."""
        with within("cloud_init", "cloud_init"):
            full = members(cls, "cloud_init", values)
            return cls(
                user_data=path_or_none("user_data", full["user_data"]),
                meta_data=path_or_none("meta_data", full["meta_data"]),
                network_config=path_or_none("network_config", full["network_config"]),
                hostname=text("hostname", full["hostname"]),
                ssh_keys=texts("ssh_keys", full["ssh_keys"]),
            )


def _check_keys(keys: tuple[str, ...]) -> None:
    if len(keys) > KEYS_MAX:
        raise ConfigError(f"cloud_ssh_keys has more than {KEYS_MAX} keys: shorten it", key="cloud_ssh_keys")
    for key in keys:
        check_text("cloud_ssh_keys", key, KEY_BYTES)
        if not key.isprintable() or not _SSH_KEY.search(key):
            sentence = f'cloud_ssh_keys must be public keys such as "ssh-ed25519 AAAA...", not {shown(key)}'
            raise ConfigError(sentence, key="cloud_ssh_keys")
