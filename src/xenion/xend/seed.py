"""The disk on which a guest's cloud-init finds what its domain's configuration gives it: STATE/domains/NAME/cloud-init.

It is made anew at each start, and gone when the domain is; the guest finds it by its label, whatever its name.
"""

import asyncio
import os
import shutil
import stat
from pathlib import Path
from string import ascii_lowercase

from xenion.api.errors import ApiError
from xenion.config.cloud_init import CloudInit
from xenion.config.disk import Disk
from xenion.config.domain import DomainConfig
from xenion.xend.storage import private_folder

FOLDER, SEED = "cloud-init", "seed.iso"


async def make(config: DomainConfig, uuid: str, state: Path) -> Disk | None:
    """Writes it, if the configuration has something for cloud-init; `state` is the folder of the domain's logs.
    ApiError."""
    if config.cloud_init is None:
        return None
    wanted, vdev = config.cloud_init, free_vdev(config)
    path = state / FOLDER / SEED
    writing = asyncio.ensure_future(asyncio.to_thread(_write, path, wanted, config.name, uuid))
    try:
        await asyncio.shield(writing)
    except asyncio.CancelledError:
        await asyncio.wait((writing,))  # it must not come to be after its domain was given up
        raise
    return Disk(target=str(path), vdev=vdev, writable=False)


def free_vdev(config: DomainConfig) -> str:
    """The last of xvda to xvdz that no disk of the domain's is on, or has a partition of. ApiError (refused)."""
    used = {disk.vdev.rstrip("0123456789") for disk in config.disks}
    for letter in reversed(ascii_lowercase):
        if f"xvd{letter}" not in used:
            return f"xvd{letter}"
    raise ApiError(
        "refused", "cloud-init's disk finds no place: leave one of xvda to xvdz free, or leave cloud_init out"
    )


def remove(state: Path) -> None:
    """One that is gone is fine. OSError."""
    folder = state / FOLDER
    if folder.exists():
        shutil.rmtree(folder)


def _write(path: Path, wanted: CloudInit, name: str, uuid: str) -> None:
    """Blocks. ApiError."""
    from xenion.images.failure import RootDiskError
    from xenion.images.seed import make_seed

    files = {key: _content(key, getattr(wanted, key)) for key in ("user_data", "meta_data", "network_config")}
    try:
        private_folder(path.parent)
        make_seed(path, instance_id=uuid, hostname=wanted.hostname or name, ssh_keys=wanted.ssh_keys, **files)
    except RootDiskError as error:
        raise ApiError("refused", str(error)) from error
    except OSError as error:
        raise ApiError("failed", f"{error.filename or path}: {error.strerror}") from error


def _content(key: str, path: Path | None) -> bytes | None:
    """ApiError."""
    from xenion.images.seed import MOST_BYTES

    if path is None:
        return None
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        with os.fdopen(fd, "rb") as file:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise ApiError("refused", f"cloud_{key} {path} is not a file: correct the path")
            return file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise ApiError("refused", f"cloud_{key} {path} does not exist: correct the path") from None
    except OSError as error:
        raise ApiError("refused", f"cloud_{key} {path}: {error.strerror}") from error
