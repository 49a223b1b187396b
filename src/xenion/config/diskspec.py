"""One virtual disk as the text of xm and xl (xl-disk-configuration(5)), with Xenion's own words, read and written.

[PREFIX:]TARGET,VDEV[:cdrom],ACCESS[,BACKEND]                                xm
[TARGET[,FORMAT[,VDEV[,ACCESS]]]] and KEY=VALUE or FLAG anywhere among them  xl
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from xenion.config.amounts import amount, count
from xenion.config.checks import within
from xenion.config.disk import Disk, Format, format_of, is_url
from xenion.config.errors import ConfigError, shown
from xenion.config.vdev import canonical

_KEY = re.compile(r"([a-z][a-z0-9_-]*)=(.*)", re.DOTALL)
_PREFIX = re.compile(r"([a-z][a-z0-9]*):(.*)", re.DOTALL)
_POSITIONS = ("target", "format", "vdev", "access")
_KEYS = (
    *_POSITIONS,
    *("devtype", "backend", "backendtype", "script", "specification", "grant_usage"),
    *("colo-host", "colo-port", "colo-export", "active-disk", "hidden-disk"),
    *("sector", "limit-bytes", "limit-requests"),
)
_FLAGS = frozenset(
    (
        *("cdrom", "overlay", "discard", "no-discard", "persistent-grants"),
        *("direct-io-safe", "trusted", "untrusted", "colo", "no-colo"),
    )
)
_ACCESS = {
    **dict.fromkeys(("w", "rw", "w!", "readwrite"), True),
    **dict.fromkeys(("r", "ro", "readonly"), False),
}
_FORMATS = {"raw": Format.RAW, "qcow2": Format.QCOW2, "nbd": Format.NBD, "empty": Format.RAW}
# What xm's prefixes say of the format; phy is a device of the host's. Others are what an outer one is followed by.
_PREFIXES = {
    **dict.fromkeys(("file", "phy", "ioemu", "tap", "tap2", "tapdisk"), ""),
    **dict.fromkeys(("aio", "sync", "raw"), "raw"),
    **dict.fromkeys(("qcow2", "qcow", "qed", "vhd", "vmdk"), None),
}
_SCRIPTS = frozenset(("iscsi", "nbd", "enbd", "drbd"))
_DOMAIN_0 = ("0", "Domain-0", "dom0")
_COLO = frozenset(("colo", "colo-host", "colo-port", "colo-export", "active-disk", "hidden-disk"))
_WITHOUT_EFFECT = {
    "backendtype": "there is one back end, which reads every format",
    "direct-io-safe": "there is no workaround to disable",
    "untrusted": "the guest's front end is not told",
    "grant_usage": "disks are always used through grants",
    "w!": "an image that is written is never shared, and this is w",
}


def read_disk(*specs: str) -> tuple[Disk, tuple[str, ...]]:
    """The disk that a specification asks for, and notes of what in it has no effect.

    `specs` are its parts as one writes them on a command line, else one. A relative path starts at the current
    directory, after `phy:` at /dev. Raises `ConfigError` with the key `disk`.
    """
    with within("disk", f"disk {shown(','.join(specs))}"):
        said = _Said()
        for spec in specs:
            said.take(spec)
        return said.disk(), said.notes()


def read_target(text: str) -> str:
    """What a path, perhaps with xm's prefix, or an NBD URL names: the `target` of a CD-ROM. ConfigError."""
    said = _Said()
    said.take_target(text)
    if said.values.get("format", "raw") != "raw":
        raise ConfigError(f"a CD is a raw image, not {said.values['format']}", key="disk")
    return said.target()


def write_disk(disk: Disk) -> str:
    """The text that `read_disk` takes for this disk."""
    words = [f"format={disk.format}", f"vdev={disk.vdev}", f"access={'rw' if disk.writable else 'ro'}"]
    words += [flag for flag in ("cdrom", "overlay") if getattr(disk, flag)]
    words += [] if disk.discard else ["no-discard"]
    words += ["persistent-grants"] if disk.persistent_grants else []
    words += [] if disk.sector_bytes == 512 else [f"sector={disk.sector_bytes}"]
    words += [f"limit-bytes={disk.limit_bytes}"] if disk.limit_bytes else []
    words += [f"limit-requests={disk.limit_requests}"] if disk.limit_requests else []
    return ", ".join([*words, f"target={disk.target}"])


@dataclass(slots=True)
class _Said:
    """What a specification has said so far. A position is taken even by nothing at all."""

    values: dict[str, str] = field(default_factory=dict)
    flags: set[str] = field(default_factory=set)
    taken: set[str] = field(default_factory=set)
    device: bool = False
    """The target is a device of the host's."""

    def take(self, spec: str) -> None:
        """One text: words between commas, but for a `target=`, which is all of the rest."""
        rest = spec
        while rest := rest.lstrip():
            if rest.startswith("target="):
                self._set("target", rest.removeprefix("target="))
                return
            word, _, rest = rest.partition(",")
            self._take_word(word.rstrip())

    def _take_word(self, word: str) -> None:
        if word in _FLAGS:
            self.flags.add(word)
        elif word in ("readonly", "readwrite"):
            self._set("access", word)
        elif (match := _KEY.fullmatch(word)) and not is_url(word):
            if match[1] not in _KEYS:
                raise ConfigError(f"{shown(match[1])} is not known: there is {', '.join(_KEYS)}")
            self._set(match[1], match[2])
        else:
            self._take_position(word)

    def _set(self, key: str, value: str) -> None:
        if self.values.get(key, "") not in ("", value):
            raise ConfigError(f"{key} is given twice: keep one")
        self.values[key] = value
        self.taken.add(key)

    def _take_position(self, word: str) -> None:
        free = [name for name in _POSITIONS if name not in self.taken]
        name = free[0] if free else "backend"
        if name == "backend" and "backend" in self.taken:
            raise ConfigError(f"there is no place for {shown(word)}: remove it")
        if name == "target":
            self.take_target(word)
        elif (
            name == "format" and ":" in word and not self.values["target"]
        ):  # xm's empty drive: `,hdc:cdrom,r`
            self.taken.add("format")
            self._take_vdev(word)
        elif name == "vdev":
            self._take_vdev(word)
        else:
            self._set(name, word)

    def _take_vdev(self, word: str) -> None:
        """xm's `hdc:cdrom` says the kind of device, too."""
        name, colon, kind = word.removeprefix("ioemu:").partition(":")
        self._set("vdev", name)
        if colon:
            self._set("devtype", kind)

    def take_target(self, word: str) -> None:
        """After xm's prefixes, which stand for the position of the format."""
        while not is_url(word) and (match := _PREFIX.fullmatch(word)):
            prefix, word = match.groups()
            if prefix in _SCRIPTS:
                raise ConfigError(f"{prefix}: asks for a script, and none is run: {_attach_hint(prefix)}")
            if prefix not in _PREFIXES:
                raise ConfigError(f"{prefix}: is not known; a path with a colon is written target=PATH, last")
            said = _PREFIXES[prefix]
            if said != "":
                self._set("format", said or prefix)
            self.taken.add("format")
            self.device |= prefix == "phy"
        self._set("target", word)

    # --- what it comes to

    def disk(self) -> Disk:
        self._refuse_what_is_another_disk()
        target, kind = self.target(), self.values.get("devtype", "")
        if kind not in ("", "cdrom", "disk"):
            raise ConfigError(f"devtype must be cdrom or disk, not {shown(kind)}")
        if not self.values.get("vdev"):
            raise ConfigError("the virtual disk is missing: write TARGET,FORMAT,xvda,w or vdev=xvda")
        cdrom = kind == "cdrom" or "cdrom" in self.flags
        form = self._format(
            target
        )  # before the virtual disk, which it has the place of where xm's prefix is missing
        return Disk(
            target=target,
            vdev=canonical(self.values["vdev"]),
            format=form,
            writable=self._access() and not cdrom,
            cdrom=cdrom,
            overlay="overlay" in self.flags,
            sector_bytes=count("sector", self.values.get("sector") or "512"),
            discard="no-discard" not in self.flags,
            persistent_grants="persistent-grants" in self.flags,
            limit_bytes=amount("limit-bytes", self.values.get("limit-bytes") or "0"),
            limit_requests=count("limit-requests", self.values.get("limit-requests") or "0"),
        )

    def _refuse_what_is_another_disk(self) -> None:
        values = self.values
        if values.get("script"):
            raise ConfigError(
                "script is not supported: attach what it would to the host, and give its device"
            )
        if values.get("backend", "") not in ("", *_DOMAIN_0):
            raise ConfigError("backend must be Domain-0: no other domain serves disks")
        if values.get("specification", "") not in ("", "xen"):
            raise ConfigError(f"specification must be xen, not {shown(values['specification'])}")
        if colo := _COLO & (self.flags | values.keys()):
            raise ConfigError(f"{min(colo)} is not supported: disks are not replicated")
        if {"discard", "no-discard"} <= self.flags:
            raise ConfigError("discard and no-discard exclude each other: keep one")

    def target(self) -> str:
        """As a disk has it: absolute, or a URL."""
        target = self.values.get("target", "")
        if not target or is_url(target) or target.startswith("/"):
            return target
        if self.device or self.values.get("backendtype") == "phy":
            return f"/dev/{target}"
        try:
            return str(Path.cwd() / target)
        except OSError:
            raise ConfigError("the target is a relative path and the current directory is gone") from None

    def _format(self, target: str) -> Format:
        word = self.values.get("format", "")
        if not word:
            return format_of(target)
        if word in ("qcow", "qed", "vhd", "vmdk"):
            hint = "convert the image with qemu-img convert -O qcow2"
            raise ConfigError(f"format {word} is not supported: {hint}")
        if word not in _FORMATS:
            hint = (
                ""
                if "access" in self.taken
                else ", or file: before the target for the older TARGET,VDEV,ACCESS"
            )
            raise ConfigError(f"format must be raw, qcow2 or nbd, not {shown(word)}{hint}")
        if word == "empty" and target:
            raise ConfigError("format empty is for a drive without a target: leave one out")
        return _FORMATS[word]

    def _access(self) -> bool:
        word = self.values.get("access") or "w"
        if word not in _ACCESS:
            raise ConfigError(f"access must be r or w, not {shown(word)}")
        return _ACCESS[word]

    def notes(self) -> tuple[str, ...]:
        vdev = canonical(self.values["vdev"])
        said = [*sorted(self.flags), *(key for key, value in self.values.items() if value)]
        said += [self.values.get("access", "")]
        found = [
            f"disk: {vdev}: {w} has no effect: {_WITHOUT_EFFECT[w]}" for w in said if w in _WITHOUT_EFFECT
        ]
        cdrom = "cdrom" in (*self.flags, self.values.get("devtype"))
        if cdrom and self.values.get("access") and self._access():
            found.append(f"disk: {vdev}: a CD-ROM is read-only, whatever its access says")
        return tuple(found)


def _attach_hint(prefix: str) -> str:
    if prefix == "nbd":
        return "write nbd://HOST:PORT/EXPORT"
    return "attach the disk to the host, and give its device"
