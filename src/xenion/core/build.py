"""Builds the C core and the software processor's C half as one extension module, `xenion.core._core`.

cffi reads the plain-C headers (`state.h`, `api.h`, `software_api.h`), so each structure is declared once and its
layout is checked by the compiler.
"""

import os
import re
from pathlib import Path

from cffi import FFI

PACKAGE = Path(__file__).resolve().parent.parent
CORE = PACKAGE / "core" / "src"
SOFTWARE = PACKAGE / "processor" / "software"

CALLBACKS = """
extern "Python" int64_t on_cold_call(struct vcpu *v, uint64_t number, const uint64_t *args);
extern "Python" int on_cold_trap(struct vcpu *v, uint32_t vector, uint32_t error);
"""


def declarations(path: Path) -> str:
    """The header's declarations in the form that cffi takes: no comments, no preprocessor but plain constants."""
    text = re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.S)
    return "\n".join(line for line in text.splitlines() if not re.match(r"#(?!define \w+ \d+$)", line))


def sources() -> list[str]:
    """Relative to the working directory, which for setuptools is the project's root."""
    files = sorted(CORE.glob("*.c")) + sorted(SOFTWARE.glob("*.c"))
    return [os.path.relpath(f) for f in files]


ffibuilder = FFI()
ffibuilder.cdef(
    "struct platform;\n"
    + "\n".join(declarations(p) for p in (CORE / "state.h", CORE / "api.h", SOFTWARE / "software_api.h"))
)
ffibuilder.cdef(CALLBACKS)
ffibuilder.set_source(
    "xenion.core._core",
    '#include "core.h"\n#include "api.h"\n#include "../../processor/software/software_api.h"\n',
    sources=sources(),
    include_dirs=[os.path.relpath(CORE)],
    depends=[os.path.relpath(h) for d in (CORE, SOFTWARE) for h in d.glob("*.h")],
    extra_compile_args=[
        "-std=gnu11",
        "-O2",
        "-Wall",
        "-Wextra",
        "-Wno-unused-parameter",
        "-mno-red-zone",
        "-fno-strict-aliasing",
    ],
    libraries=["dl", "pthread"],
    py_limited_api=True,
)

if __name__ == "__main__":
    ffibuilder.compile(verbose=True)
