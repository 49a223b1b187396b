"""Debian's Xen, fetched but not installed."""

import gzip
import re
import subprocess
import zlib
from pathlib import Path

from xenion.images import cache
from xenion.images.apt import Apt
from xenion.images.cache import Say

PACKAGE = "xen-hypervisor-4.17-amd64"
_VERSION = re.compile(r"Xen version (\S+)")


class XenError(Exception):
    """Debian's package holds no Xen that could be used."""


def fetch(folder: Path, say: Say) -> Path:
    """Xen as a plain ELF file in `folder`, fetched unless it is there.

    Raises XenError, AptError, CacheError or OSError.
    """
    path = folder / "xen.elf"
    if path.is_file():
        return path
    root = cache.folder() / "debian"
    with cache.locked(root, say), cache.scratch(root) as scratch:
        apt = Apt(root / "apt")
        if not apt.has_lists():
            say("fetching Debian's package lists")
            apt.update()
        say(f"downloading {PACKAGE}")
        cache.write(path, _unpack(apt.download(PACKAGE, scratch), scratch / "content"))
    return path


def _unpack(deb: Path, into: Path) -> bytes:
    done = subprocess.run(["dpkg-deb", "-x", deb, into], capture_output=True, text=True, check=False)
    if done.returncode:
        raise XenError(f"dpkg-deb cannot unpack {deb.name}: {done.stderr.strip()}")
    images = [path for path in (into / "boot").glob("xen-*.gz") if path.is_file() and not path.is_symlink()]
    if len(images) != 1:
        raise XenError(f"{deb.name} holds {len(images)} files boot/xen-*.gz instead of one.")
    try:
        return gzip.decompress(images[0].read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise XenError(f"{images[0].name} of {deb.name} is damaged: {error}") from error


def version(console: str) -> str | None:
    """The version that Xen told on its console, if that is a console of Xen."""
    match = _VERSION.search(console)
    return match[1] if match else None
