"""An image, and a base as `xenion.images.base` keeps it, made of a few files instead of Debian."""

import json
import subprocess
import time
from pathlib import Path

from xenion.images import base, store
from xenion.images.programs import environment
from xenion.images.recipe import Recipe
from xenion.images.store import Image

RELEASE = "6.1.0-9-cloud-amd64"
SIZE = 64 << 20


def make_tree(tree: Path) -> None:
    for folder in ("boot", "etc/systemd/system", "root", "var/lib/dpkg"):
        (tree / folder).mkdir(parents=True)
    (tree / "etc/shadow").write_text("root:*:1:0:9:7:::\n")
    (tree / "boot" / f"vmlinuz-{RELEASE}").write_bytes(b"the kernel")
    (tree / "boot" / f"initrd.img-{RELEASE}").write_bytes(b"the initrd")
    status = "Package: a\nStatus: install ok installed\n\nPackage: b\nStatus: deinstall ok config-files\n\n"
    (tree / "var/lib/dpkg/status").write_text(status + "Package: c\nStatus: install ok installed\n\n")


def make_disk(tree: Path, disk: Path) -> None:
    options = ["-q", "-F", "-t", "ext4", "-O", "^orphan_file,metadata_csum_seed", "-d", str(tree)]
    subprocess.run(["mke2fs", *options, str(disk), f"{SIZE >> 10}K"], env=environment(), check=True)


def make_base(recipe: Recipe, scratch: Path, *, age: float = 0) -> Path:
    """In the present cache; its folder."""
    folder = base.folder() / base.key(recipe)
    folder.mkdir(parents=True)
    tree = scratch / f"tree-{folder.name}"
    make_tree(tree)
    make_disk(tree, folder / "root.img")
    (folder / "vmlinuz").write_bytes(b"the kernel")
    (folder / "initrd.img").write_bytes(b"the initrd")
    record = {"release": RELEASE, "packages": 2, "built_at": time.time() - age}
    (folder / "base.json").write_text(json.dumps(record))
    return folder


def make_image(name: str, *, age: float = 0) -> Image:
    """In the present store, with a disk that holds no file system."""
    image = Image(
        name=name,
        folder=store.place(name),
        suite="bookworm",
        release=RELEASE,
        cmdline="root=/dev/xvda ro",
        hostname=name,
        uuid="01234567-89ab-4def-8123-456789abcdef",
        packages=151,
        added=("nginx",),
        cloud_init=False,
        built_at=1_700_000_000 - age,
        system_at=1_700_000_000 - age,
    )
    image.folder.mkdir(parents=True)
    for path in (image.disk, image.kernel, image.initrd):
        path.write_bytes(bytes(4096))
    store.write_record(image, image.folder)
    return image
