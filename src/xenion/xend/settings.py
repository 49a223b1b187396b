"""xend.toml: what xend may do beyond its defaults. Read once, at its start.

[tcp]                        # nothing of it: xend listens on its Unix socket only
listen = "127.0.0.1:8006"
certificate = "/etc/xenion/xend.crt"   # PEM
key = "/etc/xenion/xend.key"           # PEM, readable by xend only
token = "/etc/xenion/xend.token"       # a file with the word that clients must know, readable by xend only

[migration]                  # nothing of it: domains can leave, but none comes
listen = "0.0.0.0:8002"
allow = ["192.0.2.0/24"]     # hosts that may send domains here; needed where there is no TLS
certificate = "/etc/xenion/host.crt"   # with all three, TLS: both hosts show a certificate of this authority
key = "/etc/xenion/host.key"
ca = "/etc/xenion/ca.crt"
ssh = "ssh -i /etc/xenion/key"         # the command for `xm migrate --ssh`; "ssh" if left out

Before any table: user_network and host_loopback; behind them [networks.NAME]: see xenion.xend.networks.defined.
"""

import shlex
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any, NoReturn

from xenion.xend.networks import defined
from xenion.xend.networks.defined import Network, UserNetwork

SHORTEST_TOKEN = 16
MIGRATION_PORT = 8002
"""Xen's xend-relocation-port."""
USER_NETWORKS = ("auto", "passt", "slirp")
_KEYS = ("tcp", "migration", "user_network", "host_loopback", "networks")
_TLS_KEYS = ("certificate", "key", "ca")
_TCP_KEYS = ("listen", "certificate", "key", "token")


class SettingsError(Exception):
    """The file cannot be used; one sentence says where and what to do."""


@dataclass(frozen=True, slots=True)
class Tcp:
    host: str
    port: int
    certificate: Path
    key: Path
    token: str


Subnet = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Migration:
    """`port` 0: nobody listens. TLS with all of `certificate`, `key` and `ca`, or without."""

    host: str = ""
    port: int = 0
    allow: tuple[Subnet, ...] = ()
    certificate: Path | None = None
    key: Path | None = None
    ca: Path | None = None
    ssh: tuple[str, ...] = ("ssh",)
    """The command, with options of its own."""


@dataclass(frozen=True, slots=True)
class Settings:
    tcp: Tcp | None = None
    migration: Migration = field(default_factory=Migration)
    user_network: UserNetwork = field(default_factory=UserNetwork)
    networks: Mapping[str, Network] = field(default_factory=dict)


def read(path: Path) -> Settings:
    """The defaults if there is no such file. SettingsError."""
    try:
        values = tomllib.loads(path.read_text())
    except FileNotFoundError:
        return Settings()
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: {error}") from error
    _check_keys(path, "", values, _KEYS)
    return Settings(
        _tcp(path, values["tcp"]) if "tcp" in values else None,
        _migration(path, values["migration"]) if "migration" in values else Migration(),
        _user_network(path, values),
        _networks(path, values.get("networks", {})),
    )


def _check_keys(path: Path, table: str, values: Any, known: tuple[str, ...]) -> None:
    if not isinstance(values, dict):
        raise SettingsError(f"{path}: [{table}] must be a table")
    for key in values:
        if key not in known:
            raise SettingsError(
                f"{path}: {table}{'.' if table else ''}{key} is not known: there is {', '.join(known)}"
            )


def _user_network(path: Path, values: dict[str, Any]) -> UserNetwork:
    program, loopback = values.get("user_network", USER_NETWORKS[0]), values.get("host_loopback", False)
    if not isinstance(program, str) or program not in USER_NETWORKS:
        raise SettingsError(f"{path}: user_network must be one of {', '.join(USER_NETWORKS)}")
    if not isinstance(loopback, bool):
        raise SettingsError(f"{path}: host_loopback must be true or false")
    return UserNetwork(program, loopback)


def _networks(path: Path, values: Any) -> dict[str, Network]:
    def wrong(sentence: str) -> NoReturn:
        raise SettingsError(f"{path}: {sentence}")

    if not isinstance(values, dict):
        wrong("[networks] must be tables, as in [networks.lan]")
    return {name: defined.parse(name, table, wrong) for name, table in values.items()}


def _tcp(path: Path, values: Any) -> Tcp:
    _check_keys(path, "tcp", values, _TCP_KEYS)
    for key in _TCP_KEYS:
        if not isinstance(values.get(key), str) or not values[key]:
            raise SettingsError(f'{path}: tcp.{key} is missing: give it as text, as in {key} = "..."')
    host, port = _address(path, "tcp", values["listen"])
    certificate, key, token = (path.parent / values[name] for name in ("certificate", "key", "token"))
    for secret in (key, token):
        _check_secret(path, secret)
    return Tcp(host, port, certificate, key, _word(path, token))


def _address(path: Path, table: str, said: str) -> tuple[str, int]:
    host, colon, port = said.rpartition(":")
    if not colon or not host or not port.isdecimal() or len(port) > 5 or not 0 < int(port) < 65536:
        raise SettingsError(f'{path}: {table}.listen must be ADDRESS:PORT, not "{said}"')
    return host.strip("[]"), int(port)


def _migration(path: Path, values: Any) -> Migration:
    _check_keys(path, "migration", values, ("listen", "allow", "ssh", *_TLS_KEYS))
    given = [key for key in _TLS_KEYS if key in values]
    for key in ("listen", "ssh", *_TLS_KEYS):
        if key in values and (not isinstance(values[key], str) or not values[key]):
            raise SettingsError(f'{path}: migration.{key} must be text, as in {key} = "..."')
    if given and len(given) < len(_TLS_KEYS):
        raise SettingsError(f"{path}: TLS needs all of {', '.join(f'migration.{key}' for key in _TLS_KEYS)}")
    host, port = _address(path, "migration", values["listen"]) if "listen" in values else ("", 0)
    allow = _subnets(path, values.get("allow", []))
    if port and not given and not allow:
        raise SettingsError(
            f"{path}: migration.allow must name who may send domains here, or give TLS's three files"
        )
    ssh = _words(path, values.get("ssh", "ssh"))
    if not given:
        return Migration(host, port, allow, ssh=ssh)
    certificate, secret, ca = (path.parent / values[name] for name in _TLS_KEYS)
    _check_secret(path, secret)
    return Migration(host, port, allow, certificate, secret, ca, ssh)


def _words(path: Path, command: str) -> tuple[str, ...]:
    try:
        words = tuple(shlex.split(command))
    except ValueError as error:
        raise SettingsError(f"{path}: migration.ssh: {error}") from error
    if not words:
        raise SettingsError(f'{path}: migration.ssh must be a command, as in ssh = "ssh"')
    return words


def _subnets(path: Path, values: Any) -> tuple[Subnet, ...]:
    if not isinstance(values, list):
        raise SettingsError(f'{path}: migration.allow must be a list, as in ["192.0.2.0/24"]')
    try:
        return tuple(ip_network(value) for value in values if isinstance(value, str) or _no_text(value))
    except ValueError as error:
        raise SettingsError(f"{path}: migration.allow: {error}") from error


def _no_text(value: Any) -> NoReturn:
    raise ValueError(f"{value!r} is no address or network: write it as text")


def _check_secret(path: Path, secret: Path) -> None:
    try:
        mode = secret.stat().st_mode
    except OSError as error:
        raise SettingsError(f"{path}: {secret}: {error.strerror}") from error
    if mode & 0o077:
        raise SettingsError(f"{path}: others may read {secret}: chmod 600 it")


def _word(path: Path, token: Path) -> str:
    try:
        word = token.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: {token} cannot be read: {error}") from error
    if len(word) < SHORTEST_TOKEN or not word.isascii() or not word.isprintable() or " " in word:
        raise SettingsError(
            f"{path}: {token} must hold one word of at least {SHORTEST_TOKEN} printable characters"
        )
    return word
