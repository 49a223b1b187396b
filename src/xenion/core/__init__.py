"""The C core's Python face: `lib` (its functions), `ffi` (its structures)."""

from typing import Any

from xenion.core import _core  # type: ignore[attr-defined]  # the extension module has no types

lib: Any = _core.lib
ffi: Any = _core.ffi
