"""Kernels and busybox out of Debian's packages, kept in the user's cache; nothing is installed.

The first request for a package fetches it; later ones take the copy in the cache, without asking the network,
until a caller asks for a refresh. A copy is never changed, so paths stay good while a newer one is fetched.
"""

import re
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from xenion.images import cache
from xenion.images.apt import PACKAGE, Apt, AptError
from xenion.images.cache import Say

_KERNEL_NAME = re.compile(r"linux-image-[0-9][a-z0-9+.-]*")
_FOLDER_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]*_[A-Za-z0-9+.~%-]+_[a-z0-9-]+")
_KEPT = re.compile(
    r"boot/(vmlinuz|config)-[^/]+"
    r"|lib/modules/[^/]+/(modules\.[a-z.]+|kernel/.+\.ko(\.[a-z0-9]+)?)"
    r"|bin/busybox"
)
_MOST_BYTES = 4 << 30


class ImageError(Exception):
    """A package does not hold what it is fetched for."""


@dataclass(frozen=True)
class Kernel:
    """A kernel of Debian in the cache."""

    package: str
    """The package and its version, such as `linux-image-6.1.0-56-cloud-amd64_6.1.192-2_amd64`."""
    release: str
    """What `uname -r` says in a guest that runs it."""
    vmlinuz: Path
    modules: Path | None
    """The folder `lib/modules/RELEASE`; None where the package has no modules. Has no modules.dep."""


def kernel(package: str = "linux-image-cloud-amd64", *, refresh: bool = False, say: Say = print) -> Kernel:
    """The newest kernel of `package`, which is a meta package (`linux-image-amd64`) or a kernel itself.

    `say` takes lines of progress, only when something slow happens. Raises AptError, CacheError, ImageError
    or OSError.
    """
    folder = _package(package, refresh, say)
    images = sorted((folder / "boot").glob("vmlinuz-*"))
    if len(images) != 1:
        raise ImageError(f"Package {folder.name} holds {len(images)} kernels in boot/ instead of one.")
    release = images[0].name.removeprefix("vmlinuz-")
    modules = folder / "lib" / "modules" / release
    return Kernel(folder.name, release, images[0], modules if modules.is_dir() else None)


def busybox(*, refresh: bool = False, say: Say = print) -> Path:
    """The statically linked busybox of Debian; arguments and errors as for `kernel`."""
    folder = _package("busybox-static", refresh, say)
    program = folder / "bin" / "busybox"
    if not program.is_file():
        raise ImageError(f"Package {folder.name} holds no bin/busybox.")
    return program


def _package(package: str, refresh: bool, say: Say) -> Path:
    if not PACKAGE.fullmatch(package):
        raise AptError(f"{package!r} is no Debian package's name.")
    root = cache.folder() / "debian"
    cached = _cached(root, package)
    if cached and not refresh:
        return cached
    with cache.locked(root, say):
        # Whoever held the lock before may have fetched the very same package.
        if not refresh and (cached := _cached(root, package)):
            return cached
        try:
            return _fetch(root, package, refresh, say)
        except AptError as error:
            if cached is None:
                raise
            say(f"using {cached.name} of an earlier fetch: {error}")
            return cached


def _cached(root: Path, package: str) -> Path | None:
    """The folder of what the last fetch of `package` brought, if it is still there."""
    try:
        name = (root / "newest" / package).read_text(encoding="utf-8", errors="replace").strip()
    except FileNotFoundError:
        return None
    folder = root / name
    return folder if _FOLDER_NAME.fullmatch(name) and folder.is_dir() else None


def _fetch(root: Path, package: str, refresh: bool, say: Say) -> Path:
    apt = Apt(root / "apt")
    if refresh or not apt.has_lists():
        say("fetching Debian's package lists ...")
        apt.update()
    real = next((name for name in apt.depends(package) if _KERNEL_NAME.fullmatch(name)), package)
    folder = root / apt.file_name(real).removesuffix(".deb")
    if not folder.is_dir():
        with cache.scratch(root) as scratch:
            say(f"downloading {folder.name} ...")
            deb = apt.download(real, scratch)
            say(f"unpacking {folder.name} ...")
            content = scratch / "content"
            _unpack(deb, content)
            content.rename(folder)
    cache.write(root / "newest" / package, folder.name.encode())
    return folder


def _unpack(deb: Path, into: Path) -> None:
    """Writes the wanted regular files of a package below `into`; nothing else, and nothing elsewhere."""
    into.mkdir()
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE) as dpkg:
        room = _MOST_BYTES
        try:
            with tarfile.open(fileobj=dpkg.stdout, mode="r|") as archive:
                for member in archive:
                    path = _wanted(member)
                    if path is None:
                        continue
                    room -= member.size
                    if room < 0:
                        raise ImageError(f"Package {deb.name} unpacks to more than {_MOST_BYTES >> 30} GiB.")
                    _write_member(archive, member, into / path)
        except (tarfile.TarError, FileExistsError) as error:
            raise ImageError(f"Package {deb.name} is damaged: {error}.") from error
        finally:
            if dpkg.stdout:
                dpkg.stdout.close()
    if dpkg.returncode != 0:
        raise ImageError(f"Package {deb.name} is damaged: dpkg-deb cannot unpack it.")


def _wanted(member: tarfile.TarInfo) -> PurePosixPath | None:
    """Where to keep `member`, relative to the package's folder; None for what is not kept."""
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or not member.isreg():
        return None
    if path.parts[:1] == ("usr",):  # where Debian has them since /usr was merged
        path = path.relative_to("usr")
    return path if _KEPT.fullmatch(str(path)) else None


def _write_member(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    source = archive.extractfile(member)
    if source is None:
        raise ImageError(f"{member.name} is not a regular file.")
    path.parent.mkdir(parents=True, exist_ok=True)
    with source, path.open("xb") as file:
        while block := source.read(1 << 20):
            file.write(block)
    path.chmod(0o755 if member.mode & 0o111 else 0o644)
