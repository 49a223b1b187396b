"""What the tests of the ABI's structures share."""

from collections.abc import Callable
from ctypes import LittleEndianStructure, LittleEndianUnion, sizeof

import pytest


def _describe(structure: type[LittleEndianStructure] | type[LittleEndianUnion]) -> str:
    offsets = (f"{field[0]} {getattr(structure, field[0]).offset}" for field in structure._fields_)
    return f"{', '.join(offsets)}; {sizeof(structure)}"


@pytest.fixture(scope="session")
def describe() -> Callable[[type[LittleEndianStructure] | type[LittleEndianUnion]], str]:
    """A structure as ``field offset, field offset; size``."""
    return _describe
