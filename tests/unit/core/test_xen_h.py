"""The core's own copy of Xen's constants against xenion.abi: none without its fellow, none that differs."""

import ast
import importlib
import pkgutil
import re

import pytest

import xenion.abi
from xenion.abi.errno import Errno
from xenion.abi.xen import Hypercall
from xenion.core.build import CORE

RENAMED = {
    "FLAT_USER_DS32": "FLAT_USER_DS32",
}
CORES_OWN = {"MMU_UPDATE_PREEMPTED"}
"""Defined by xen/arch/x86/mm.c, not by a public header: what Linux sees of it is an opaque bit of its own count."""


def defines() -> dict[str, int]:
    text = (CORE / "xen.h").read_text()
    found = re.findall(r"^#define (\w+) (.+)$", text, re.M)
    return {name: number(value) for name, value in found}


def number(text: str) -> int:
    """A C constant without names: digits, suffixes, a shift."""
    value = eval(
        compile(ast.parse(re.sub(r"(?<=[0-9a-fA-F])(u|ull)\b", "", text), mode="eval"), "xen.h", "eval")
    )
    assert isinstance(value, int)
    return value


def modules() -> dict[str, int]:
    names: dict[str, int] = {}
    for module in pkgutil.walk_packages(xenion.abi.__path__, "xenion.abi."):
        names |= {k: v for k, v in vars(importlib.import_module(module.name)).items() if isinstance(v, int)}
    return names


ABI = modules()


def test_the_header_is_read_whole() -> None:
    text = (CORE / "xen.h").read_text()
    assert len(defines()) == len(re.findall(r"^#define ", text, re.M)) - 1  # but the guard


@pytest.mark.parametrize(("name", "value"), [*defines().items()], ids=str)
def test_constant(name: str, value: int) -> None:
    if name.startswith("XEN_E") and name.removeprefix("XEN_") in Errno.__members__:
        assert value == Errno[name.removeprefix("XEN_")]
    elif name.startswith("HYPERCALL_"):
        assert value == Hypercall[name.removeprefix("HYPERCALL_")]
    elif name in CORES_OWN:
        assert value == 1 << 31
    else:
        assert value == ABI[name]
