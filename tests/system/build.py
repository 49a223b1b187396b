"""Builds what guests of the system tests run: static programs, tiny kernels. Results are kept by their content."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
PROGRAM_FLAGS = [
    "-O1",
    "-static",
    "-no-pie",
    "-fno-pie",
    "-fcf-protection=none",
    "-fno-stack-protector",
    "-Wall",
    "-Wextra",
    "-Werror",
]
KERNEL_FLAGS = ["-nostdlib", "-static", "-no-pie", "-Wl,--build-id=none", "-Wl,-z,noexecstack"]


class BuildError(Exception):
    """The compiler refused a source; carries its words."""


def compiler() -> str | None:
    """The C compiler's path (`CC` or gcc), or None."""
    return shutil.which(os.environ.get("CC", "gcc"))


def folder() -> Path:
    """Where results are kept: a folder of this user's below the system's temporary one."""
    return Path(tempfile.gettempdir()) / f"xenion-system-{os.getuid()}"


def program(name: str) -> Path:
    """The static executable of programs/NAME.c, or of all C files in programs/NAME."""
    source = HERE / "programs" / name
    sources = sorted(source.glob("*.[ch]")) if source.is_dir() else [source.with_suffix(".c")]
    return _build(name, PROGRAM_FLAGS, sources)


def tiny_kernel(end: str, words: str = "", *, times: int = 1, extra: Sequence[str] = ()) -> Path:
    """A PV kernel that prints `words`, `times` over, then does `end`: a label of kernels/tiny.S, or code."""
    jump = end if " " in end else f"jmp {end}"
    escaped = words.encode("unicode_escape").decode().replace('"', r"\"")
    flags = [*KERNEL_FLAGS, f"-DEND={jump}", f'-DWORDS="{escaped}"', f"-DTIMES={times}", *extra]
    script = HERE / "kernels" / "tiny.lds"
    return _build("tiny", [*flags, f"-Wl,-T,{script}"], [HERE / "kernels" / "tiny.S"], script)


def _build(name: str, flags: Sequence[str], sources: Sequence[Path], *also: Path) -> Path:
    cc = compiler()
    if cc is None:
        raise BuildError("no C compiler: install gcc, or name one in CC")
    digest = hashlib.sha256("\0".join([cc, *flags]).encode())
    for path in (*sources, *also):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    target = folder() / f"{name}-{digest.hexdigest()[:16]}"
    if not target.exists():
        _compile([cc, *flags, *(str(path) for path in sources if path.suffix != ".h")], target)
    return target


def _compile(command: Sequence[str], target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        made = Path(scratch) / target.name
        done = subprocess.run([*command, "-o", str(made)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise BuildError(f"{target.name}: the compiler refused\n{done.stderr}")
        made.replace(target)
