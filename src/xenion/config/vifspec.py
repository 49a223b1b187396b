"""One virtual interface as the text of xm and xl (xl-network-configuration(5)), with Xenion's own words: read, written.

KEY=VALUE or FLAG, with commas between them; nothing at all is an interface on the user network
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from xenion.config.amounts import count, rate
from xenion.config.checks import within
from xenion.config.errors import ConfigError, shown
from xenion.config.vif import LOOPBACK, Attachment, Forward, Vif, address

_FORWARD = re.compile(r"(tcp|udp):(?:([0-9.]+|\[[0-9a-fA-F:.]+\]):)?([0-9]{1,5}):([0-9]{1,5})")
_NETWORKS = ("bridge", "isolated", "network")
_SEVERAL = ("ip", "forward")
_ACTED = ("mac", "rate", "vifname", "queues", *_NETWORKS, *_SEVERAL)
_FLAGS = frozenset(("user", "nospoofcheck", "trusted", "untrusted"))
_DOMAIN_0 = ("", "0", "Domain-0", "dom0")
_PV = "without effect on a paravirtualised guest"
_NEUTRAL = {"type": ("vif", "netfront", "paravirtualised")}
_WITHOUT_EFFECT = {
    "type": _PV,
    "model": _PV,
    "script": "xend attaches the interface itself",
    "gatewaydev": "for a routed network, name one of xend.toml with network=",
    "netdev": "for a routed network, name one of xend.toml with network=",
    "mtu": "the network that the interface is attached to decides",
    "be_mac": "the host's device has an address of its own",
    "accel": "there is no accelerated path",
    "policy": "there are no security labels",
    "label": "there are no security labels",
    "untrusted": "the guest's front end is not told",
}
_KEYS = (*_ACTED, "backend", "devid", "vlan", *_WITHOUT_EFFECT)


def read_vif(*specs: str, place: int | None = None) -> tuple[Vif, tuple[str, ...]]:
    """The interface that a specification asks for, and notes of what in it has no effect.

    `specs` are its parts as one writes them on a command line, else one; `place` is the interface's among its domain's,
    where it has one. Raises `ConfigError` with the key `vif`.
    """
    with within("vif", f"vif {shown(','.join(specs))}"):
        said = _Said()
        for word in (word.strip() for spec in specs for word in spec.split(",")):
            if word:
                said.take(word)
        return said.vif(place), said.notes()


def write_vif(vif: Vif) -> str:
    """The text that `read_vif` takes for this interface."""
    default = Vif()
    words = [f"mac={vif.mac}"] if vif.mac else []
    words += [f"{vif.attachment}={vif.network}"] if vif.network else []
    words += [f"ip={' '.join(vif.addresses)}"] if vif.addresses else []
    if (vif.rate_bytes, vif.rate_window_us) != (0, default.rate_window_us):
        words.append(f"rate={vif.rate_bytes}B/s@{vif.rate_window_us}us")
    words += [f"forward={write_forward(forward)}" for forward in vif.forwards]
    words += [f"vifname={vif.name}"] if vif.name else []
    words += [f"queues={vif.multiqueue}"] if vif.multiqueue != default.multiqueue else []
    words += [] if vif.anti_spoofing else ["nospoofcheck"]
    return ", ".join(words)


def write_forward(forward: Forward) -> str:
    """The text that `forward=` takes."""
    host = f"[{forward.host_address}]" if ":" in forward.host_address else forward.host_address
    return f"{forward.protocol}:{host}:{forward.host_port}:{forward.guest_port}"


@dataclass(slots=True)
class _Said:
    """What a specification has said so far."""

    values: dict[str, list[str]] = field(default_factory=dict)
    flags: set[str] = field(default_factory=set)

    def take(self, word: str) -> None:
        key, equals, value = word.partition("=")
        if not equals and word in _FLAGS:
            self.flags.add(word)
            return
        if not equals or (key not in _KEYS and not key.startswith(("colo_", "forwarddev"))):
            known = ", ".join((*_ACTED, "user", "nospoofcheck"))
            raise ConfigError(f"{shown(word if not equals else key)} is not known: there is {known}")
        if key in self.values and key not in _SEVERAL:
            raise ConfigError(f"{key} is given twice: keep one")
        if value:
            self.values.setdefault(key, []).append(value)

    def _one(self, key: str, default: str = "") -> str:
        return self.values.get(key, [default])[0]

    # --- what it comes to

    def vif(self, place: int | None) -> Vif:
        self._refuse_what_is_another_interface(place)
        kind, name = self._network()
        limit, window = rate("rate", self._one("rate")) if "rate" in self.values else (0, None)
        return Vif(
            mac=self._one("mac").lower(),
            attachment=kind,
            network=name,
            addresses=tuple(map(_without_prefix, " ".join(self.values.get("ip", [])).split())),
            rate_bytes=limit,
            rate_window_us=window if window is not None else Vif().rate_window_us,
            forwards=tuple(map(_forward, self.values.get("forward", []))),
            name=self._one("vifname"),
            multiqueue=count("queues", self._one("queues", "1")),
            anti_spoofing="nospoofcheck" not in self.flags,
        )

    def _refuse_what_is_another_interface(self, place: int | None) -> None:
        if self._one("backend") not in _DOMAIN_0:
            raise ConfigError("backend must be Domain-0: no other domain serves interfaces")
        if "vlan" in self.values:
            raise ConfigError("vlan is not supported: give the bridge of that VLAN")
        for key in self.values:
            if key not in _KEYS:
                raise ConfigError(f"{key} is not supported: interfaces are not replicated")
        if "devid" in self.values and count("devid", self._one("devid")) != place:
            raise ConfigError("devid is the interface's place among the domain's, from 0: leave it out")

    def _network(self) -> tuple[Attachment, str]:
        named = [key for key in _NETWORKS if key in self.values]
        chosen = [*named, *(["user"] if "user" in self.flags else [])]
        if len(chosen) > 1:
            raise ConfigError(f"{' and '.join(chosen)} exclude each other: keep one")
        return (Attachment(named[0]), self._one(named[0])) if named else (Attachment.USER, "")

    def notes(self) -> tuple[str, ...]:
        found = [key for key in (*self.values, *sorted(self.flags)) if key in _WITHOUT_EFFECT]
        asking = [key for key in found if self._one(key) not in _NEUTRAL.get(key, ())]
        return tuple(f"vif: {key} has no effect: {_WITHOUT_EFFECT[key]}" for key in asking)


def _without_prefix(word: str) -> str:
    """xm's scripts took 192.0.2.1/32, too, which is one address."""
    plain, slash, length = word.partition("/")
    if slash and length != ("128" if ":" in plain else "32"):
        raise ConfigError(f"ip must be addresses, not a network such as {shown(word)}")
    return address(plain)


def _forward(word: str) -> Forward:
    match = _FORWARD.fullmatch(word)
    if match is None:
        form = "tcp:[ADDRESS:]HOSTPORT:GUESTPORT, or udp:..."
        raise ConfigError(f"forward must be written as {form}, not {shown(word)}")
    host = address(match[2].strip("[]")) if match[2] else LOOPBACK
    return Forward(protocol=match[1], host_address=host, host_port=int(match[3]), guest_port=int(match[4]))
