"""Builds the C core and the processors' C halves as one extension module, `xenion.core._core`.

cffi reads the plain-C headers (`state.h`, `api.h`, and each processor's), so each structure is declared once and its
layout is checked by the compiler.
"""

import os
import re
from pathlib import Path

from cffi import FFI

PACKAGE = Path(__file__).resolve().parent.parent
CORE = PACKAGE / "core" / "src"
PROCESSOR = PACKAGE / "processor"
PROCESSORS = tuple(PROCESSOR / name for name in ("common", "software", "hardware"))
FOLDERS = (CORE, *PROCESSORS)
HEADERS = (CORE / "state.h", CORE / "api.h", *(folder / f"{folder.name}_api.h" for folder in PROCESSORS))

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
    return [os.path.relpath(file) for folder in FOLDERS for file in sorted(folder.glob("*.c"))]


ffibuilder = FFI()
ffibuilder.cdef("struct platform;\n" + "\n".join(declarations(header) for header in HEADERS))
ffibuilder.cdef(CALLBACKS)
ffibuilder.set_source(
    "xenion.core._core",
    '#include "core.h"\n#include "api.h"\n'
    + "".join(f'#include "../../processor/{p.name}/{p.name}_api.h"\n' for p in PROCESSORS),
    sources=sources(),
    include_dirs=[os.path.relpath(CORE)],
    depends=[os.path.relpath(h) for d in FOLDERS for h in d.glob("*.h")],
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
