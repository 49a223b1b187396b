"""The files that the runs take: stock kernels, Xen, busybox, the guest benchmark and its initramfs."""

import hashlib
import os
import subprocess
import sys
from functools import cached_property
from pathlib import Path

from benches import xen
from xenion.images import cache, debian, initramfs
from xenion.images.apt import AptError
from xenion.images.cache import CacheError
from xenion.images.debian import ImageError
from xenion.images.initramfs import InitramfsError

GUEST = Path(__file__).parent / "guest"
CLOUD_KERNEL = "linux-image-cloud-amd64"
GENERIC_KERNEL = "linux-image-amd64"
# Of the boot protocol's header (Linux's Documentation/arch/x86/boot.rst).
_MAGIC_AT, _MAGIC = 0x202, b"HdrS"
_VERSION_POINTER_AT, _VERSION_BASE = 0x20E, 0x200
_HEADER_BYTES = 1 << 16


class AssetError(Exception):
    """A file that the yardstick needs cannot be had; the sentence says which and what to do."""


FETCH_ERRORS = (AssetError, xen.XenError, AptError, CacheError, ImageError, InitramfsError, OSError)


class Assets:
    """Where each file is: fetched or built when first asked for, which may raise any of FETCH_ERRORS.

    `work` keeps what is built. `given` may be a folder that already holds `vmlinuz-cloud`, `vmlinuz`,
    `xen.elf` and `busybox`: then nothing is fetched.
    """

    def __init__(self, work: Path, given: Path | None = None) -> None:
        self.work = work.resolve()
        self.given = given
        self.work.mkdir(parents=True, exist_ok=True)

    @cached_property
    def cloud_kernel(self) -> Path:
        """Debian's kernel for clouds: small, and a PV guest too."""
        return self._given("vmlinuz-cloud") or debian.kernel(CLOUD_KERNEL, say=say).vmlinuz

    @cached_property
    def generic_kernel(self) -> Path:
        """Debian's ordinary kernel, which can also be a Domain 0."""
        return self._given("vmlinuz") or debian.kernel(GENERIC_KERNEL, say=say).vmlinuz

    @cached_property
    def xen(self) -> Path:
        """Xen itself, as the plain ELF file that QEMU's multiboot loader takes."""
        return self._given("xen.elf") or xen.fetch(self.work, say)

    @cached_property
    def busybox(self) -> Path:
        """A static busybox: the guest's shell, and what fork_exec_wait executes."""
        return self._given("busybox") or debian.busybox(say=say)

    @cached_property
    def bench(self) -> Path:
        """The guest benchmark, a static program."""
        return compile_bench(self.work / "bench")

    @cached_property
    def initramfs(self) -> Path:
        """The root of every guest: busybox, the benchmark, and the init that runs it."""
        path = self.work / "initramfs.gz"
        files = {"init": GUEST / "init", "bin/busybox": self.busybox, "bin/bench": self.bench}
        cache.write(path, initramfs.build(files))
        return path

    def versions(self) -> dict[str, str]:
        """What was used so far: the kernels' releases, and a short hash of each other file."""
        used = {name: self.__dict__[name] for name in _VERSIONED if name in self.__dict__}
        return {name: kernel_release(path) or _hash(path) for name, path in used.items()}

    def _given(self, name: str) -> Path | None:
        if self.given is None:
            return None
        path = (self.given / name).resolve()
        if not path.is_file():
            raise AssetError(
                f"{self.given} has no file {name}: put it there, or leave --files out to fetch it."
            )
        return path


_VERSIONED = ("cloud_kernel", "generic_kernel", "xen", "busybox", "bench")


def say(line: str) -> None:
    """Tell one line of progress."""
    print(f">> {line} ...", file=sys.stderr, flush=True)


def compile_bench(target: Path) -> Path:
    """Build the guest benchmark at `target`; a compiler's complaint becomes an AssetError."""
    source, fresh = GUEST / "bench.c", target.with_name(f"{target.name}.{os.getpid()}")
    argv = ["gcc", "-O2", "-static", "-o", str(fresh), str(source)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssetError(f"gcc cannot build {source}: {done.stderr.strip()}")
    return fresh.replace(target)


def kernel_release(vmlinuz: Path) -> str | None:
    """The release that a bzImage tells in its header, or None for another file."""
    with vmlinuz.open("rb") as image:
        header = image.read(_HEADER_BYTES)
    if header[_MAGIC_AT : _MAGIC_AT + len(_MAGIC)] != _MAGIC:
        return None
    pointer = int.from_bytes(header[_VERSION_POINTER_AT : _VERSION_POINTER_AT + 2], "little")
    words = header[pointer + _VERSION_BASE :].partition(b"\0")[0].split()
    return words[0].decode("ascii", "replace") if pointer and words else None


def _hash(path: Path) -> str:
    return "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()[:16]
