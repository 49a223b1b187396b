"""The C core compiled together with the scripted platform, and loaded without an extension module."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cffi import FFI

from xenion.core.build import CORE, declarations

HERE = Path(__file__).parent
SANITIZE = "XENION_SANITIZE"
"""Set by tools/sanitize.sh: the compiler that has a sanitizer runtime, which is loaded already."""

WARNINGS = ["-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror"]
PLAIN = ["-std=gnu11", "-O1", "-g", "-fPIC", "-shared", "-mno-red-zone", "-fno-strict-aliasing"]
CHECKED = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]


@dataclass(frozen=True)
class Core:
    """`lib` has the core's functions and the platform's, `ffi` their structures."""

    ffi: Any
    lib: Any


def compile_core(folder: Path) -> Path:
    """The shared library; fails with the compiler's words."""
    compiler = os.environ.get(SANITIZE)
    command = [
        compiler or os.environ.get("CC", "cc"),
        *PLAIN,
        *WARNINGS,
        *(CHECKED if compiler else []),
        "-I",
        str(CORE),
    ]
    library = folder / "libscripted.so"
    sources = [str(path) for path in (*sorted(CORE.glob("*.c")), HERE / "scripted_platform.c")]
    done = subprocess.run(
        [*command, "-o", str(library), *sources], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"the core does not compile for its tests:\n{done.stderr}")
    return library


def load_core(library: Path) -> Core:
    ffi = FFI()
    headers = (CORE / "state.h", CORE / "api.h", HERE / "scripted_platform.h")
    ffi.cdef("struct platform;\n" + "\n".join(declarations(header) for header in headers))
    return Core(ffi, ffi.dlopen(str(library)))
