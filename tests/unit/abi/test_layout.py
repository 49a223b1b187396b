"""The declaration helper, and that every structure of the layer went through it."""

import importlib
import pkgutil
import subprocess
import sys
from ctypes import Array, LittleEndianStructure, LittleEndianUnion, Structure, Union, c_uint16
from typing import Annotated

import pytest

import xenion.abi
from xenion.abi.layout import S8, U8, U64, LayoutError, asserted_sizes, layout

MODULES = [module.name for module in pkgutil.walk_packages(xenion.abi.__path__, "xenion.abi.")]


def test_fields_come_from_the_annotations_in_order() -> None:
    @layout(24)
    class Inner(LittleEndianStructure):
        sign: S8
        words: Annotated[Array[c_uint16], c_uint16 * 3]
        wide: U64
        last: U8

    @layout(32)
    class Outer(LittleEndianStructure):
        first: U8
        inner: Inner

    outer = Outer(first=1)
    outer.inner.sign = -2
    outer.inner.words[2] = 0x1234
    assert bytes(outer)[8:16] == b"\xfe\0\0\0\0\0\x34\x12"
    assert asserted_sizes.pop(Inner) == 24
    assert asserted_sizes.pop(Outer) == 32


def test_a_union_overlays_its_fields() -> None:
    @layout(8)
    class Overlay(LittleEndianUnion):
        small: U8
        wide: U64

    assert Overlay(wide=0x1FF).small == 0xFF
    del asserted_sizes[Overlay]


def test_a_wrong_size_stops_the_import_and_says_both_sizes() -> None:
    with pytest.raises(LayoutError, match=r"Wrong is 8 bytes but Xen's ABI has 12") as caught:

        @layout(12)
        class Wrong(LittleEndianStructure):
            wide: U64

    assert isinstance(caught.value, ImportError)
    assert all(structure.__name__ != "Wrong" for structure in asserted_sizes)


@pytest.mark.parametrize("name", MODULES)
def test_every_structure_has_an_asserted_size(name: str) -> None:
    module = importlib.import_module(name)
    for structure in vars(module).values():
        if not (isinstance(structure, type) and issubclass(structure, Structure | Union)):
            continue
        if structure.__module__ == name:
            assert structure in asserted_sizes
            assert ".h: " in str(structure.__doc__)


def test_the_layer_needs_nothing_but_the_standard_library() -> None:
    program = (
        "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)\nprint(*sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, *MODULES], capture_output=True, text=True, check=True
    )
    loaded = run.stdout.split()
    assert [name for name in loaded if name.startswith("xenion.") and not name.startswith("xenion.abi")] == []
    assert not {"cffi", "unicorn", "elftools"} & set(loaded)
