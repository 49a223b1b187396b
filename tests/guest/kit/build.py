"""Builds a probe: freestanding C and a little assembly, linked into an ELF with Xen's notes (elfnote.h).

Results are cached by the content of everything that goes in: a changed kit rebuilds every probe.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

KIT = Path(__file__).parent
PROBES = KIT.parent / "probes"
FLAGS = [
    "-O2",
    "-std=gnu11",
    "-ffreestanding",
    "-fno-builtin",
    "-fno-pic",
    "-fno-pie",
    "-mcmodel=kernel",
    "-mno-red-zone",
    "-mgeneral-regs-only",
    "-fno-stack-protector",
    "-fno-asynchronous-unwind-tables",
    "-fcf-protection=none",
    "-fno-strict-aliasing",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wno-array-bounds",
]
LINK = [
    "-nostdlib",
    "-static",
    "-no-pie",
    "-Wl,--build-id=none",
    "-Wl,-z,max-page-size=4096",
    "-Wl,-z,noexecstack",
    "-Wl,-z,norelro",
]


class BuildError(Exception):
    """A probe does not compile; carries the compiler's own words."""


def compiler() -> str | None:
    """The C compiler's path (``CC`` or gcc), or None: probes cannot be built here."""
    return shutil.which(os.environ.get("CC", "gcc"))


def probes() -> list[str]:
    """Names of all probes, sorted."""
    return sorted(path.stem for path in PROBES.glob("*.c"))


def outcome(probe: str) -> str:
    """How the probe's domain ends when all is well: the WORD of ``/* outcome: WORD */``, or "poweroff"."""
    found = re.search(r"/\* outcome: ([a-z-]+) \*/", (PROBES / f"{probe}.c").read_text())
    return found.group(1) if found else "poweroff"


def seconds(probe: str) -> float:
    """How long the probe may take: 60, or what the line ``/* seconds: N */`` of its source says."""
    found = re.search(r"/\* seconds: ([0-9]+) \*/", (PROBES / f"{probe}.c").read_text())
    return float(found.group(1)) if found else 60.0


def vcpus(probe: str) -> int:
    """How many vCPUs the probe's domain has: 1, or what the line ``/* vcpus: N */`` of its source says."""
    found = re.search(r"/\* vcpus: ([0-9]+) \*/", (PROBES / f"{probe}.c").read_text())
    return int(found.group(1)) if found else 1


def build_directory() -> Path:
    """Where built probes are kept: ``XENION_GUEST_BUILD``, or this user's temporary directory."""
    chosen = os.environ.get("XENION_GUEST_BUILD")
    return Path(chosen) if chosen else Path(tempfile.gettempdir()) / f"xenion-probes-{os.getuid()}"


def compile_probe(probe: str, directory: Path | None = None) -> Path:
    """The path of ``probe``'s ELF, built when no ELF of the same sources is there.

    Raises BuildError when the compiler is missing or refuses.
    """
    cc = compiler()
    if cc is None:
        raise BuildError("no C compiler: install gcc, or name one in CC")
    kit = [path for path in sorted(KIT.iterdir()) if path.suffix in {".S", ".c", ".h", ".lds"}]
    source = PROBES / f"{probe}.c"
    digest = hashlib.sha256(" ".join([cc, *FLAGS, *LINK]).encode())
    for path in [*kit, source]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    target = (directory or build_directory()) / f"{probe}-{digest.hexdigest()[:16]}.elf"
    if not target.exists():
        units = [str(path) for path in [*kit, source] if path.suffix in {".S", ".c"}]
        _link(
            [cc, *FLAGS, *LINK, f"-I{KIT}", f"-Wl,-T,{KIT / 'link.lds'}", *units],
            target,
        )
    return target


def _link(command: list[str], target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        made = Path(scratch) / target.name
        done = subprocess.run([*command, "-o", str(made)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise BuildError(f"{target.name}: the compiler refused\n{done.stderr}")
        made.replace(target)
