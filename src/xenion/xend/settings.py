"""xend.toml: what xend may do beyond its defaults. Read once, at its start.

[tcp]                        # nothing of it: xend listens on its Unix socket only
listen = "127.0.0.1:8006"
certificate = "/etc/xenion/xend.crt"   # PEM
key = "/etc/xenion/xend.key"           # PEM, readable by xend only
token = "/etc/xenion/xend.token"       # a file with the word that clients must know, readable by xend only

Before any table: user_network and host_loopback; behind them [networks.NAME]: see xenion.xend.networks.defined.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from xenion.xend.networks import defined
from xenion.xend.networks.defined import Network, UserNetwork

SHORTEST_TOKEN = 16
USER_NETWORKS = ("auto", "passt", "slirp")
_KEYS = ("tcp", "user_network", "host_loopback", "networks")
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


@dataclass(frozen=True, slots=True)
class Settings:
    tcp: Tcp | None = None
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
    host, colon, port = values["listen"].rpartition(":")
    if not colon or not host or not port.isdecimal() or len(port) > 5 or not 0 < int(port) < 65536:
        raise SettingsError(f'{path}: tcp.listen must be ADDRESS:PORT, not "{values["listen"]}"')
    certificate, key, token = (path.parent / values[name] for name in ("certificate", "key", "token"))
    for secret in (key, token):
        _check_secret(path, secret)
    return Tcp(host.strip("[]"), int(port), certificate, key, _word(path, token))


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
