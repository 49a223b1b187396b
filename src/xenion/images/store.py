"""The root disks of this user: a folder each, whose name is the image's."""

import errno
import fcntl
import json
import os
import re
import shutil
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from xenion.images.failure import RootDiskError, WrongRequestError

DISK, KERNEL, INITRD, RECORD = "root.img", "vmlinuz", "initrd.img", "image.json"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,63}")
_LOCK = "lock"  # as xenion.images.cache calls the file that it locks beside the images
_VERSION = 1
_FLOCK = "hhxxxxqqixxxx"  # struct flock of x86-64


class StoreError(RootDiskError):
    """An image is not there, or cannot be touched."""


class NameTakenError(WrongRequestError):
    """There is such an image, or its name can be none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A finished image. Times are seconds since the epoch."""

    name: str
    folder: Path
    suite: str
    release: str
    """What `uname -r` says."""
    cmdline: str
    hostname: str
    uuid: str
    """Of the root file system."""
    packages: int
    added: tuple[str, ...]
    """Packages that were asked for."""
    cloud_init: bool
    built_at: float
    system_at: float
    """When its packages were installed, which may be earlier."""

    @property
    def disk(self) -> Path:
        return self.folder / DISK

    @property
    def kernel(self) -> Path:
        return self.folder / KERNEL

    @property
    def initrd(self) -> Path:
        return self.folder / INITRD

    @property
    def config(self) -> Path:
        return self.folder / f"{self.name}.cfg"

    def to_mapping(self) -> dict[str, Any]:
        """As JSON values, with what the disk takes now."""
        status = self.disk.stat()
        return {
            **asdict(self),
            "folder": str(self.folder),
            "disk": str(self.disk),
            "kernel": str(self.kernel),
            "initrd": str(self.initrd),
            "config": str(self.config),
            "size_bytes": status.st_size,
            "used_bytes": status.st_blocks * 512,
        }


def folder() -> Path:
    """Where images are: `$XDG_DATA_HOME/xenion/images`, or below ~/.local/share. It need not exist. StoreError."""
    base = Path(os.environ.get("XDG_DATA_HOME", ""))
    if not base.is_absolute():
        try:
            base = Path.home() / ".local" / "share"
        except RuntimeError as error:
            raise StoreError("There is no home folder to keep images in: set XDG_DATA_HOME.") from error
    return base / "xenion" / "images"


def place(name: str) -> Path:
    """The folder of the image of this name, there or not. NameTakenError, StoreError."""
    if not _NAME.fullmatch(name) or name == _LOCK:
        raise NameTakenError(
            f"{name!r} is no image's name: letters, digits and _.+- make one, at most 64 and not `lock`."
        )
    return folder() / name


def write_record(image: Image, path: Path) -> None:
    """The record of an image that is still being made in the folder `path`."""
    content = {"version": _VERSION, **asdict(image)}
    del content["name"], content["folder"]
    (path / RECORD).write_text(json.dumps(content, indent=2) + "\n")


def find(name: str) -> Image:
    """StoreError: there is none, or it is damaged. NameTakenError: there can be none."""
    path = place(name)
    if not path.is_dir():
        raise StoreError(f"There is no image {name}: `xm image list` tells which there are.")
    try:
        record = json.loads((path / RECORD).read_text())
        version = record.pop("version")
        if version != _VERSION:
            raise StoreError(
                f"The image {name} is of version {version}, and this Xenion knows version {_VERSION}: build it anew."
            )
        record["added"] = tuple(record["added"])
        image = Image(name=name, folder=path, **record)
        image.to_mapping()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(
            f"The image {name} is damaged ({error}): remove it with `xm image rm {name}`."
        ) from error
    return image


def names() -> list[str]:
    """Of the folders of all images, damaged ones too, sorted."""
    try:
        return sorted(
            path.name for path in folder().iterdir() if _NAME.fullmatch(path.name) and path.is_dir()
        )
    except FileNotFoundError:
        return []


def remove(name: str) -> None:
    """Removes an image, a damaged one too. StoreError: there is none, or it is in use; NameTakenError, OSError."""
    path = place(name)
    if path.is_symlink() or not path.is_dir():
        raise StoreError(f"There is no image {name}: `xm image list` tells which there are.")
    with unused(name):
        # Gone at once, whatever happens meanwhile.
        away = path.with_name(f".unfinished-{name}-{os.getpid()}")
        path.rename(away)
    shutil.rmtree(away)


@contextmanager
def unused(name: str) -> Iterator[None]:
    """Holds the disk of an image, so that nobody takes it; StoreError if a domain or a program uses it."""
    try:
        descriptor = os.open(place(name) / DISK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        yield
        return
    try:
        whole = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        try:
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, whole)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            raise StoreError(
                f"The image {name} is in use: end the domain that runs on it first (`xm list`)."
            ) from error
        yield
    finally:
        os.close(descriptor)
