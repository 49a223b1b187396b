"""The C core's Python face: `lib` (its functions), `ffi` (its structures)."""

from typing import Any

from xenion.core import _core

lib: Any = _core.lib
ffi: Any = _core.ffi
