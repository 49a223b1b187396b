"""What a root disk is made of: everything that is the same for all disks of one recipe."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from xenion.images.apt import PACKAGE
from xenion.images.failure import WrongRequestError

MIRROR = "http://deb.debian.org/debian"
SECURITY_MIRROR = "http://deb.debian.org/debian-security"
OLDEST = "bullseye"
_SUITE = re.compile(r"[a-z][a-z0-9-]{0,39}")
_URL = re.compile(r"(https?|file)://[!-~]{1,500}")
_WITHOUT_SECURITY = frozenset({"sid", "unstable", "experimental"})
_PACKAGES_MOST = 500

_SYSTEM = (
    "systemd-sysv",
    "systemd-resolved",
    "udev",
    "kmod",
    "initramfs-tools",
    "zstd",
    "e2fsprogs",
    "iproute2",
    "iputils-ping",
    "netbase",
    "openssh-server",
    "procps",
    "less",
    "nano",
)


class Kernel(StrEnum):
    """Debian's kernels for amd64 that boot as Xen guests."""

    CLOUD = "cloud"
    GENERIC = "generic"

    @property
    def package(self) -> str:
        return "linux-image-cloud-amd64" if self is Kernel.CLOUD else "linux-image-amd64"


class RecipeError(WrongRequestError):
    """Debian cannot be had like this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Checked when made: RecipeError. `packages` are those beside what every disk has."""

    suite: str = "bookworm"
    mirror: str = MIRROR
    security_mirror: str = SECURITY_MIRROR
    """"" for none."""
    kernel: Kernel = Kernel.CLOUD
    packages: tuple[str, ...] = ()
    cloud_init: bool = False

    def __post_init__(self) -> None:
        if not _SUITE.fullmatch(self.suite):
            raise RecipeError(f"{self.suite!r} is no name of a Debian suite: bookworm is one, sid another.")
        for url in (self.mirror, self.security_mirror):
            if (url or not self.mirror) and not _URL.fullmatch(url):
                raise RecipeError(f"{url!r} is no mirror's address: give one such as {MIRROR}.")
        if len(self.packages) > _PACKAGES_MOST:
            raise RecipeError(f"{len(self.packages)} packages are too many: {_PACKAGES_MOST} is the most.")
        for package in self.packages:
            if not PACKAGE.fullmatch(package):
                raise RecipeError(f"{package!r} is no Debian package's name.")

    @property
    def included(self) -> list[str]:
        """All packages that are named to apt, sorted."""
        names = {*_SYSTEM, *self.packages, self.kernel.package}
        if self.cloud_init:
            names |= {"cloud-init", "sudo"}  # its default user is to become root by it
        if self.mirror.startswith("https") or self.security_mirror.startswith("https"):
            names.add("ca-certificates")
        if self.suite == OLDEST:  # where resolved is a part of systemd
            names.discard("systemd-resolved")
        return sorted(names)

    @property
    def sources(self) -> list[str]:
        """The lines of /etc/apt/sources.list."""
        lines = [f"deb {self.mirror} {self.suite} main"]
        if self.suite not in _WITHOUT_SECURITY:
            lines.append(f"deb {self.mirror} {self.suite}-updates main")
            if self.security_mirror:
                lines.append(f"deb {self.security_mirror} {self.suite}-security main")
        return lines


def packages_of(words: Iterable[str]) -> tuple[str, ...]:
    """Names out of words with commas or blanks between them, each once."""
    names = [name for word in words for name in re.split(r"[\s,]+", word) if name]
    return tuple(dict.fromkeys(names))
