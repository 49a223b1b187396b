"""How the ABI's structures are declared: annotated fields, and a size that is checked at import."""

from collections.abc import Callable
from ctypes import (
    LittleEndianStructure,
    LittleEndianUnion,
    c_int8,
    c_int16,
    c_int32,
    c_uint8,
    c_uint16,
    c_uint32,
    c_uint64,
    sizeof,
)
from typing import Annotated, TypeVar

U8 = Annotated[int, c_uint8]
U16 = Annotated[int, c_uint16]
U32 = Annotated[int, c_uint32]
U64 = Annotated[int, c_uint64]
S8 = Annotated[int, c_int8]
S16 = Annotated[int, c_int16]
S32 = Annotated[int, c_int32]

T = TypeVar("T", LittleEndianStructure, LittleEndianUnion)

asserted_sizes: dict[type[LittleEndianStructure] | type[LittleEndianUnion], int] = {}
"""Every structure declared with :func:`layout`, and its size in bytes."""


class LayoutError(ImportError):
    """A structure does not have the size that Xen's headers give it."""

    def __init__(self, name: str, actual: int, expected: int) -> None:
        super().__init__(
            f"{name} is {actual} bytes but Xen's ABI has {expected}: its fields do not follow the header "
            "that its docstring names, correct them"
        )


def layout(size: int) -> Callable[[type[T]], type[T]]:
    """Make a structure's ctypes fields from its annotations; LayoutError unless it takes ``size`` bytes.

    An annotation is another structure, or ``Annotated[type for the checker, ctypes type]``.
    """

    def declare(cls: type[T]) -> type[T]:
        cls._fields_ = [
            (name, getattr(hint, "__metadata__", (hint,))[0]) for name, hint in cls.__annotations__.items()
        ]
        if sizeof(cls) != size:
            raise LayoutError(f"{cls.__module__}.{cls.__qualname__}", sizeof(cls), size)
        asserted_sizes[cls] = size
        return cls

    return declare
