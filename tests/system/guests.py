"""Linux guests for the tests: an initramfs with busybox, programs of ours and a script."""

from collections.abc import Mapping
from pathlib import Path

from xenion.images import initramfs

PRELUDE = """\
#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /tmp /dev
/bin/busybox --install -s /bin
export PATH=/bin HOME=/ TERM=linux
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
"""
END = "poweroff -f\n"


def ramdisk(busybox: Path, script: str, programs: Mapping[str, Path]) -> bytes:
    """An initramfs whose init mounts the usual places, runs `script` and powers off; `programs` are at the root."""
    files: dict[str, bytes | Path] = {
        "bin/busybox": busybox,
        "init": (PRELUDE + script + "\n" + END).encode(),
    }
    return initramfs.build(files | dict(programs))
